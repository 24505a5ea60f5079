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
    probes: Mapping[str, str]
    """Perception fields of the response and their true values."""
    adapter: TaskAdapter
    """The component that the state belongs to; in a mixture it differs from episode to episode."""
    task: str
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response text amounts to in the state it answers to."""

    text: str
    status: ParseStatus
    action: str
    """The named action, or the fallback where the text named none that is legal."""
    recognized: Mapping[str, bool]
    """For every perception field whether it is right; empty where the task has none."""

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
    query = adapter.query(observation, info)
    return TaskState(
        prompt_token_ids=encoder.encode(query.text, len(query.images)),
        frames=tuple(frame_encoder.encode(i) for i in query.images),
        sizes=tuple((i.shape[0], i.shape[1]) for i in query.images),
        legal=tuple(adapter.legal_actions(info)),
        probes=adapter.recognition(info),
        adapter=adapter.component(info),
        task=adapter.task(info),
        info=dict(info),
    )


def read_answer(text: str, state: TaskState, random_legal: Callable[[TaskState], str]) -> Answer:
    """Find the action that `text` names in `state`.

    Where it names none that is legal, the task's own fallback is taken, and where it has none `random_legal`.
    """
    adapter = state.adapter
    parsed = parse_action(text, adapter.action_names or state.legal, state.legal)
    action = parsed.name if parsed.status is ParseStatus.OK else adapter.fallback(parsed.value, state.info)
    return Answer(
        text=text,
        status=parsed.status,
        action=random_legal(state) if action is None else action,
        recognized=recognized(text, state.probes),
    )
