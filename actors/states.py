"""One state of an environment as the policy meets it, and what an answer to it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.frames import FrameEncoder
from actors.parsing import parse_action, recognized
from actors.prompting import ImageSize, PromptEncoder
from envs.base import TaskAdapter
from protocol.trajectory import Frame, ParseStatus


@dataclass(frozen=True, slots=True, eq=False)
class TaskState:
    """What the policy is about to answer: the prompt and image of one state, and the truth behind it."""

    prompt_token_ids: tuple[int, ...]
    """Unexpanded: one placeholder id per image."""
    frames: tuple[Frame, ...]
    sizes: tuple[ImageSize, ...]
    legal: tuple[str, ...]
    truth: Mapping[str, str]
    task: str
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response text amounts to in the state it answers to."""

    text: str
    status: ParseStatus
    action: str
    """The named action, or the fallback where the text named none that is legal."""
    recognized: bool
    """Whether the task has perception fields and all of them are right."""

    @property
    def legal(self) -> bool:
        """Whether the action is the one that the text names."""
        return self.status is ParseStatus.OK


def describe(
    adapter: TaskAdapter,
    encoder: PromptEncoder,
    frame_encoder: FrameEncoder,
    observation: Any,
    info: Mapping[str, Any],
) -> TaskState:
    """Put a state into the policy's words and pictures."""
    image = adapter.image(observation, info)
    images = () if image is None else (image,)
    return TaskState(
        prompt_token_ids=encoder.encode(adapter.prompt(observation, info), len(images)),
        frames=tuple(frame_encoder.encode(i) for i in images),
        sizes=tuple((i.shape[0], i.shape[1]) for i in images),
        legal=tuple(adapter.legal_actions(info)),
        truth=adapter.recognition(info),
        task=adapter.task(info),
        info=dict(info),
    )


def read_answer(text: str, adapter: TaskAdapter, state: TaskState, fallback: Callable[[TaskState], str]) -> Answer:
    """Find the action that `text` names in `state`; `fallback` names one where it names none that is legal."""
    parsed = parse_action(text, adapter.action_names or state.legal, state.legal)
    return Answer(
        text=text,
        status=parsed.status,
        action=parsed.name if parsed.name in state.legal else fallback(state),
        recognized=bool(state.truth) and recognized(text, state.truth),
    )
