"""What an algorithm is: a way to estimate advantages, and a policy loss. The update loop knows nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from learner.losses import ResponseLogProbs
from learner.moving_average import MovingAverages
from learner.policy import Policy
from learner.rows import Rows
from learner.targets import Targets


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows:
    """B rows with the log-probs that a policy loss compares, each [B, T] and float32 unless it says otherwise."""

    log_probs: torch.Tensor
    """Under the weights as they are now, with gradient."""
    old_log_probs: torch.Tensor
    """What the importance ratio is taken against: the sampler's, or the learner's own at the start of the update
    where an importance correction is on."""
    log_weights: torch.Tensor | None
    """Learner's at the start minus sampler's; None where nothing is corrected."""
    roles: torch.Tensor
    """int8: `protocol.trajectory.TokenRole`."""
    response_mask: torch.Tensor
    """bool: True = a sampled token."""
    thought_weights: torch.Tensor
    """[B]: lambda of each row."""
    new: ResponseLogProbs
    """Sums of `log_probs` over spans."""
    old: ResponseLogProbs
    """Sums of `old_log_probs` over spans."""


AdvantageEstimator = Callable[[Policy, Rows], Targets]
"""Runs once per update, before anything is trained.

Raises:
    TrajectoryError: The rows hold nothing that this estimator can use.
"""


class PolicyLoss(Protocol):
    """What is minimised, and the importance ratios it looks at."""

    def __call__(self, rows: ScoredRows, advantages: torch.Tensor) -> torch.Tensor:
        """Losses [B] of rows with advantages [B]."""
        ...

    def log_ratios(self, rows: ScoredRows) -> tuple[torch.Tensor, torch.Tensor]:
        """Logarithms of new over old, float32 [B, R], and which of them count, bool [B, R] (R: 1, or tokens)."""
        ...


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One entry of the registry, built from a configuration."""

    estimate: AdvantageEstimator
    policy_loss: PolicyLoss
    has_critic: bool
    """Whether the value head is trained."""
    memory: MovingAverages | None = None
    """What the estimator remembers from update to update; saved in checkpoints."""
