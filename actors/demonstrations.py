"""Rows of a scripted expert, in the schema that sampled rows have, for supervised fine-tuning.

A noisy expert is a deliberate choice: perception and format come out right, the actions only partly, so that
reinforcement learning has something to add. An expert may know nothing to say in some states (a game from elsewhere
can be beyond it): that ends the episode, and is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import gymnasium
import numpy as np

from actors.builder import SlotIdentity
from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.sampler import Sample
from actors.slot import EnvSlot
from envs.base import TaskAdapter, check_noise
from protocol.adapter import CanaryPrompt
from protocol.codec import TrajectoryBatch, encode
from protocol.errors import ConfigError, ExpertFailed
from protocol.trajectory import DEMONSTRATION_VERSION, NO_DIGEST

MAX_SILENT_EPISODES = 100
"""After so many episodes in a row without a word the expert is given up."""

ROWS_PER_BATCH = 4096
"""Rows become Arrow after so many: as objects they take four times the memory."""


class Patience:
    """Bounds how often in a row an expert may have nothing to say."""

    def __init__(self) -> None:
        self.given_up = 0
        """Episodes that ended where the expert knew no more."""
        self._silent = 0

    def spoke(self) -> None:
        """The expert said something."""
        self._silent = 0

    def give_up(self, adapter: TaskAdapter, error: ValueError) -> None:
        """The expert raised `error` instead of an answer: its episode ends here.

        Raises:
            ExpertFailed: It has said nothing in MAX_SILENT_EPISODES episodes.
        """
        self.given_up += 1
        self._silent += 1
        if self._silent >= MAX_SILENT_EPISODES:
            raise ExpertFailed(
                f"The scripted expert of {adapter.env_id} had nothing to say at the start of {self._silent} episodes "
                f"in a row, last: {error}",
                "choose episodes that it can play (env.kwargs), repair the adapter's expert(), or do without "
                "demonstrations: sft=null with a trained model in model.path",
            ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Demonstrations:
    """What an expert has shown."""

    batches: tuple[TrajectoryBatch, ...]
    """Rows with `policy_version` -1, behaviour log-probs 0 and the expert's responses, in order."""
    given_up: int
    """Episodes that ended where the expert knew no more; what it had shown until then is in the batches."""


def demonstrate(
    make_env: Callable[[], tuple[gymnasium.Env, TaskAdapter]],
    encoder: PromptEncoder,
    *,
    num_steps: int,
    noise: float,
    seed: int,
    mistakes: float = 0.0,
    run_id: str = "demonstrations",
) -> Demonstrations:
    """Play `num_steps` steps of the task's scripted expert, in whole episodes but the last.

    Args:
        make_env: Builds the environment with its task adapter.
        encoder: Must know the token count of the environment's images.
        num_steps: Steps to play; each makes a row.
        noise: Probability that a demonstrated action is a uniformly random legal one.
        seed: Source of every draw.
        mistakes: Probability that the task's own mistake is played instead: a row that is not legal, which
            fine-tuning leaves out, in front of one that tells what to do then.

    Raises:
        ValueError: `noise` or `mistakes` is outside [0, 1].
        ConfigError: The task has no mistakes to play.
        ExpertFailed: The expert knows nothing to say in any episode.
    """
    check_noise(noise)
    check_noise(mistakes)
    env, adapter = make_env()
    if mistakes and type(adapter).mistake is TaskAdapter.mistake:
        env.close()
        raise ConfigError(
            f"demonstrations.mistakes is {mistakes:g}, but {adapter.env_id} has no mistakes to show.",
            "set it to 0, or write the adapter's mistake()",
        )
    identity, patience = SlotIdentity(run_id, "expert", 0, seed), Patience()
    with closing(EnvSlot(env, adapter, encoder, FrameEncoder(), identity)) as slot:
        slot.reset()
        steps, batches = 0, []
        while steps < num_steps:
            if steps >= (len(batches) + 1) * ROWS_PER_BATCH:
                batches.append(encode(*slot.builder.take(leave_open=True)))
            text = _answer(slot, patience, noise, mistakes)
            if text is None:
                slot.cut()
                slot.reset()
                continue
            steps += 1
            if slot.apply(_as_sample(text, slot, encoder), temperature=1.0) is not None:
                slot.reset()
        slot.cut()
        batches.append(encode(*slot.builder.take()))
        return Demonstrations(tuple(batches), patience.given_up)


def canary_prompts(
    make_env: Callable[[], tuple[gymnasium.Env, TaskAdapter]], encoder: PromptEncoder, *, count: int, seed: int
) -> tuple[CanaryPrompt, ...]:
    """First states of `count` episodes with the expert's responses, or with some action where it knows none."""
    env, adapter = make_env()
    identity = SlotIdentity("canaries", "canary", 0, seed)
    prompts: list[CanaryPrompt] = []
    with closing(EnvSlot(env, adapter, encoder, FrameEncoder(), identity)) as slot:
        for _ in range(count):
            slot.reset()
            state = slot.state
            try:
                text = adapter.expert(state.info, slot.draw("expert"))
            except ValueError:  # any text proves weights as well
                text = json.dumps({"action": state.legal[0]})
            prompts.append(
                CanaryPrompt(
                    prompt_token_ids=state.prompt_token_ids,
                    images=tuple(f.data for f in state.frames),
                    response_token_ids=encoder.tokenizer.encode(text, add_special_tokens=False).ids,
                )
            )
    return tuple(prompts)


def _answer(slot: EnvSlot, patience: Patience, noise: float, mistakes: float) -> str | None:
    """The expert's response to the slot's state; None where it knows none, which ends the episode."""
    adapter = slot.state.adapter
    try:
        text = adapter.expert(slot.state.info, slot.draw("expert"), noise)
        if mistakes and (rng := slot.draw("mistake")).random() < mistakes:
            text = adapter.mistake(slot.state.info, rng) or text
    except ValueError as error:
        patience.give_up(adapter, error)
        return None
    patience.spoke()
    return text


def _as_sample(text: str, slot: EnvSlot, encoder: PromptEncoder) -> Sample:
    ids = np.array(encoder.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)
    return Sample(
        prompt_token_ids=encoder.expand(slot.state.prompt_token_ids, slot.state.sizes),
        token_ids=ids,
        log_probs=np.zeros(len(ids), dtype=np.float32),
        text=text,
        policy_version=DEMONSTRATION_VERSION,
        adapter_digest=NO_DIGEST,
        finish_reason="stop",
        sample_s=0.0,
    )
