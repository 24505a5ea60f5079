"""What an update aims at: the critic's old values, advantages and returns of every row, fixed before it
begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from learner.advantages import generalized_advantages, normalize
from learner.batching import collate_tokens, microbatches
from learner.config import PPOConfig
from learner.policy import Policy
from learner.rows import Rows

_NO_RESPONSE = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Per-row tensors, float32 [N] each, without gradient, on the CPU."""

    old_values: torch.Tensor
    advantages: torch.Tensor
    """Normalised, if the configuration says so."""
    returns: torch.Tensor


def compute_targets(policy: Policy, rows: Rows, config: PPOConfig, token_budget: int) -> Targets:
    """Value every state once, then estimate advantages trajectory by trajectory.

    Bootstrap states are valued in the same passes as the rows' own prompts. `token_budget` bounds the padded
    tokens of one pass.
    """
    boot = [i for i, prompt in enumerate(rows.bootstrap_prompts) if prompt is not None]
    prompts = [*rows.prompts, *(rows.bootstrap_prompts[i] for i in boot)]
    digests = [*rows.digests, *(rows.bootstrap_digests[i] for i in boot)]
    values = state_values(policy, [p for p in prompts if p is not None], digests, rows.frames, token_budget)
    old_values = values[: len(rows)]
    bootstrap_values = torch.zeros(len(rows.last_rows))
    bootstrap_values[boot] = values[len(rows) :]
    advantages, returns = generalized_advantages(
        torch.tensor(rows.rewards) * config.reward_scale,
        old_values,
        rows.last_rows.tolist(),
        bootstrap_values,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    return Targets(old_values, normalize(advantages) if config.normalize_advantages else advantages, returns)


@torch.no_grad()
def state_values(
    policy: Policy,
    prompts: Sequence[np.ndarray],
    digests: Sequence[tuple[bytes, ...]],
    frames: Mapping[bytes, bytes],
    token_budget: int,
) -> torch.Tensor:
    """Values of M states, float32 [M] on the CPU; equal states (same prompt, same frames) are valued once."""
    keys = [(prompt.tobytes(), images) for prompt, images in zip(prompts, digests, strict=True)]
    first_of = {key: i for i, key in reversed(list(enumerate(keys)))}
    distinct = np.array(sorted(first_of.values()), dtype=np.int64)
    values = torch.zeros(len(prompts))
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    for group in microbatches(lengths, distinct, token_budget):
        batch = collate_tokens(
            [prompts[i] for i in group],
            [_NO_RESPONSE] * len(group),
            [digests[i] for i in group],
            frames,
            policy.backbone.pad_id,
        )
        values[torch.from_numpy(group)] = policy.values(batch).cpu()
    return values[[first_of[key] for key in keys]]
