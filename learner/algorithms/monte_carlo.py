"""Advantages from the rewards of whole episodes alone. Used by reinforce."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from learner.advantages import discounted_returns, normalize
from learner.algorithms.episode_targets import episode_targets
from learner.episodes import whole_episodes
from learner.policy import Policy
from learner.rows import Rows
from learner.targets import Targets


@dataclass(frozen=True, slots=True)
class MonteCarloAdvantages:
    """REINFORCE (Williams 1992): discounted rewards to come, minus their mean over the rows of the environment.

    The mean as a baseline holds a little of every row's own return, a bias of order 1 / rows. An episode at the
    environment's step limit counts as it stands: nothing is there to bootstrap from.
    """

    gamma: float
    reward_scale: float
    normalized: bool
    """Advantages of the whole update are scaled to standard deviation 1 as well."""

    def __call__(self, policy: Policy, rows: Rows) -> Targets:
        """See `learner.algorithms.base.AdvantageEstimator`; the policy is not asked."""
        episodes = whole_episodes(rows, self.reward_scale)
        returns = [discounted_returns(episode.rewards, self.gamma) for episode in episodes]
        baselines = {
            name: np.concatenate([g for e, g in zip(episodes, returns, strict=True) if e.component == name]).mean()
            for name in {e.component for e in episodes}
        }
        advantages = [g - baselines[e.component] for e, g in zip(episodes, returns, strict=True)]
        if self.normalized:
            flat = normalize(torch.from_numpy(np.concatenate(advantages))).numpy()
            advantages = np.split(flat, np.cumsum([len(a) for a in advantages])[:-1])
        pairs = zip(episodes, advantages, strict=True)
        return episode_targets(rows, pairs, gamma=self.gamma, metrics={"episodes": float(len(episodes))})
