"""The clipped policy loss with one importance ratio per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from learner.algorithms.base import ScoredRows
from learner.importance import Correction
from learner.losses import policy_loss, reduce_tokens, token_weights


@dataclass(frozen=True, slots=True)
class ClippedTokenLoss:
    """PPO's clipped surrogate at every token, with the advantage of its row.

    GRPO (arXiv 2402.03300, equation 3) and VL-DAC (arXiv 2508.04280) take the mean over all tokens of a response;
    Dr. GRPO (arXiv 2503.20783) takes a sum.
    """

    clip: float
    max_ratio: float | None
    weights: Literal["all", "action", "thought_weight"]
    """Which tokens count (see `learner.losses.token_weights`)."""
    reduction: Literal["mean", "sum"]
    correction: Correction | None

    def __call__(self, rows: ScoredRows, advantages: torch.Tensor) -> torch.Tensor:
        """Losses [B]; see `learner.algorithms.base.PolicyLoss`."""
        log_ratio, weights = self._weighed(rows)
        losses = policy_loss(log_ratio, advantages[:, None], clip=self.clip, max_ratio=self.max_ratio)
        if self.correction is not None and rows.log_weights is not None:
            losses = self.correction.weights(rows.log_weights) * losses
        return reduce_tokens(losses, weights, self.reduction)

    def log_ratios(self, rows: ScoredRows) -> tuple[torch.Tensor, torch.Tensor]:
        """One per token; those with a weight count."""
        log_ratio, weights = self._weighed(rows)
        return log_ratio, weights > 0

    def _weighed(self, rows: ScoredRows) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-ratios of all tokens and their weights, float32 [B, T] each."""
        weights = token_weights(rows.roles, rows.response_mask, rows.thought_weights, self.weights)
        return rows.log_probs - rows.old_log_probs, weights
