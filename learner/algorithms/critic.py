"""Advantages from a critic: generalised advantage estimation over trajectories. Used by ppo and vl_dac."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from learner.advantages import generalized_advantages, normalize
from learner.policy import Policy
from learner.rows import Rows
from learner.targets import Targets, state_values
from protocol.trajectory import EndReason


@dataclass(frozen=True, slots=True)
class CriticAdvantages:
    """GAE; every row is used, and a cut trajectory bootstraps from its real next state."""

    gamma: float
    gae_lambda: float
    reward_scale: float
    normalized: bool
    """Advantages of the whole update are shifted and scaled to mean 0 and standard deviation 1."""
    token_budget: int
    """Bound on the padded tokens of one forward pass."""
    bootstrap_truncated: bool
    """Whether one that hit the environment's step limit does so too; else nothing follows it."""

    def __call__(self, policy: Policy, rows: Rows) -> Targets:
        """Value every state once, then estimate advantages trajectory by trajectory.

        Bootstrap states are valued in the same passes as the rows' own prompts.
        """
        boot = [
            i
            for i, (prompt, end) in enumerate(zip(rows.bootstrap_prompts, rows.end_reasons, strict=True))
            if prompt is not None and (self.bootstrap_truncated or end is not EndReason.TRUNCATED)
        ]
        prompts = [*rows.prompts, *(rows.bootstrap_prompts[i] for i in boot)]
        digests = [*rows.digests, *(rows.bootstrap_digests[i] for i in boot)]
        values = state_values(policy, [p for p in prompts if p is not None], digests, rows.frames, self.token_budget)
        old_values = values[: len(rows)]
        bootstrap_values = torch.zeros(len(rows.last_rows))
        bootstrap_values[boot] = values[len(rows) :]
        advantages, returns = generalized_advantages(
            torch.tensor(rows.rewards) * self.reward_scale,
            old_values,
            rows.last_rows.tolist(),
            bootstrap_values,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )
        return Targets(
            normalize(advantages) if self.normalized else advantages, returns, old_values, np.arange(len(rows))
        )
