"""What an update aims at, fixed before it begins: advantages, returns and the critic's old values of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from learner.batching import collate_tokens
from learner.parallel.dealing import deal_passes
from learner.policy import Policy

_NO_RESPONSE = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Per-row tensors, float32 [N] each, without gradient, on the CPU."""

    advantages: torch.Tensor
    """As they enter the policy loss; 0 in rows that are left out."""
    returns: torch.Tensor
    """What the critic learns, or the discounted rewards to come where there is none."""
    old_values: torch.Tensor | None
    """The critic's values before the update; None without a critic."""
    trained_rows: np.ndarray
    """int64 [M], rising: the rows that the update trains on."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What the estimator has to say of itself."""


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
    for part in deal_passes(policy.group, lengths, distinct, token_budget):
        batch = collate_tokens(
            [prompts[i] for i in part.rows],
            [_NO_RESPONSE] * len(part.rows),
            [digests[i] for i in part.rows],
            frames,
            policy.backbone.pad_id,
        )
        found = policy.values(batch).cpu()
        if part.counts:
            values[torch.from_numpy(part.rows)] = found
    policy.group.add_up([values])
    return values[[first_of[key] for key in keys]]
