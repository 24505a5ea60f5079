"""Policy losses on log pi of a whole response: lambda * sum(thought) + sum(action)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from learner.algorithms.base import ScoredRows
from learner.importance import Correction
from learner.losses import policy_loss, response_log_probs, score_function_loss


@dataclass(frozen=True, slots=True)
class ClippedResponseLoss:
    """PPO with one importance ratio per response (see `learner.losses.policy_loss`)."""

    clip: float
    max_ratio: float | None
    correction: Correction | None

    def __call__(self, rows: ScoredRows, advantages: torch.Tensor) -> torch.Tensor:
        """Losses [B]; see `learner.algorithms.base.PolicyLoss`."""
        log_ratio = rows.new.weighted - rows.old.weighted
        losses = policy_loss(log_ratio, advantages, clip=self.clip, max_ratio=self.max_ratio)
        return _corrected(losses, rows, self.correction)

    def log_ratios(self, rows: ScoredRows) -> tuple[torch.Tensor, torch.Tensor]:
        """One per response."""
        return _of_responses(rows)


@dataclass(frozen=True, slots=True)
class ResponseScoreLoss:
    """REINFORCE on log pi of the response (see `learner.losses.score_function_loss`)."""

    correction: Correction | None

    def __call__(self, rows: ScoredRows, advantages: torch.Tensor) -> torch.Tensor:
        """Losses [B]; see `learner.algorithms.base.PolicyLoss`."""
        return _corrected(score_function_loss(rows.new.weighted, advantages), rows, self.correction)

    def log_ratios(self, rows: ScoredRows) -> tuple[torch.Tensor, torch.Tensor]:
        """One per response, although the loss itself takes none: how far the policy has moved."""
        return _of_responses(rows)


def _of_responses(rows: ScoredRows) -> tuple[torch.Tensor, torch.Tensor]:
    log_ratio = (rows.new.weighted - rows.old.weighted)[:, None]
    return log_ratio, torch.ones_like(log_ratio, dtype=torch.bool)


def _corrected(losses: torch.Tensor, rows: ScoredRows, correction: Correction | None) -> torch.Tensor:
    if correction is None or rows.log_weights is None:
        return losses
    # The weight is that of what the loss calls log pi: the same lambda, the same spans.
    sums = response_log_probs(rows.log_weights, rows.roles, rows.response_mask, rows.thought_weights)
    return correction.weights(sums.weighted) * losses
