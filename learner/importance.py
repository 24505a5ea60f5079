"""Importance weights between the policy that sampled and the weights an update starts from: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from learner.losses import MAX_LOG_RATIO


@dataclass(frozen=True, slots=True)
class Correction:
    """How weights w = p_start / p_behavior enter a loss."""

    mode: Literal["full", "truncated", "masked"]
    """w itself (decoupled PPO, arXiv 2110.00641); min(w, threshold); or w where it lies within
    [1 / threshold, threshold] and 0 elsewhere."""
    threshold: float

    def weights(self, log_weights: torch.Tensor) -> torch.Tensor:
        """Multipliers of the losses, of any shape, without gradient; log_weights = log p_start - log p_behavior.

        0 gives exactly 1, so rows that need no correction are left alone.
        """
        weights = log_weights.detach().clamp(max=MAX_LOG_RATIO).exp()
        if self.mode == "truncated":
            return weights.clamp(max=self.threshold)
        if self.mode == "masked":
            return torch.where(is_outside(weights, self.threshold), 0.0, weights)
        return weights


def is_outside(weights: torch.Tensor, threshold: float) -> torch.Tensor:
    """Bool, True = the weight lies outside [1 / threshold, threshold]."""
    return (weights > threshold) | (weights < 1 / threshold)
