"""Rows of a scripted expert, in the schema that sampled rows have, for supervised fine-tuning.

A noisy expert is a deliberate choice: perception and format come out right, the actions only partly, so that
reinforcement learning has something to add.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import gymnasium
import numpy as np

from actors.builder import SlotIdentity
from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.sampler import Sample
from actors.slot import EnvSlot
from envs.base import TaskAdapter
from protocol.adapter import CanaryPrompt
from protocol.codec import TrajectoryBatch, encode
from protocol.trajectory import DEMONSTRATION_VERSION, NO_DIGEST


def demonstrate(
    make_env: Callable[[], tuple[gymnasium.Env, TaskAdapter]],
    encoder: PromptEncoder,
    *,
    num_steps: int,
    noise: float,
    seed: int,
    run_id: str = "demonstrations",
) -> TrajectoryBatch:
    """Play `num_steps` steps of the task's scripted expert, in whole episodes but the last.

    Args:
        make_env: Builds the environment with its task adapter.
        encoder: Must know the token count of the environment's images.
        num_steps: Steps to play; each makes a row.
        noise: Probability that a demonstrated action is a uniformly random legal one.
        seed: Source of every draw.

    Returns:
        Rows with `policy_version` -1, behaviour log-probs 0 and the expert's responses.
    """
    env, adapter = make_env()
    identity = SlotIdentity(run_id, "expert", 0, seed)
    with closing(EnvSlot(env, adapter, encoder, FrameEncoder(), identity)) as slot:
        slot.reset()
        for _ in range(num_steps):
            text = adapter.expert(slot.state.info, slot.draw("expert"), noise)
            if slot.apply(_as_sample(text, slot, encoder), temperature=1.0) is not None:
                slot.reset()
        slot.cut()
        return encode(*slot.builder.take())


def canary_prompts(
    make_env: Callable[[], tuple[gymnasium.Env, TaskAdapter]], encoder: PromptEncoder, *, count: int, seed: int
) -> tuple[CanaryPrompt, ...]:
    """First states of `count` episodes with the expert's responses."""
    env, adapter = make_env()
    identity = SlotIdentity("canaries", "canary", 0, seed)
    prompts = []
    with closing(EnvSlot(env, adapter, encoder, FrameEncoder(), identity)) as slot:
        for _ in range(count):
            slot.reset()
            state = slot.state
            text = adapter.expert(state.info, slot.draw("expert"))
            prompts.append(
                CanaryPrompt(
                    prompt_token_ids=state.prompt_token_ids,
                    images=tuple(f.data for f in state.frames),
                    response_token_ids=encoder.tokenizer.encode(text, add_special_tokens=False).ids,
                )
            )
    return tuple(prompts)


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
