"""Advantages at two levels: among episodes of one initial state, and among steps taken from one state. Used by gigpo.

Group-in-Group Policy Optimization (arXiv 2505.10978). Environments are resettable to equal states
here, so that the episodes of a group pass through equal states often; a state is equal to another if its prompt
tokens and its frames are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learner.advantages import discounted_returns, group_relative
from learner.algorithms.episode_targets import episode_targets
from learner.algorithms.group_relative import group_metrics, totals_of
from learner.episodes import Episode, equal_starts, whole_episodes
from learner.policy import Policy
from learner.rows import Rows
from learner.targets import Targets


@dataclass(frozen=True, slots=True)
class AnchorStateAdvantages:
    """A = A_episode + step_weight * A_step.

    A_episode compares sums of rewards within the group, as GRPO does. A_step compares the discounted rewards to come
    of all rows of the group that stand in one state; a state that only one row stands in gives 0.
    """

    gamma: float
    reward_scale: float
    step_weight: float
    normalized: bool
    """Both differences are divided by the unbiased standard deviation of what is compared."""

    def __call__(self, policy: Policy, rows: Rows) -> Targets:
        """See `learner.algorithms.base.AdvantageEstimator`; the policy is not asked."""
        groups = equal_starts(whole_episodes(rows, self.reward_scale))
        pairs: list[tuple[Episode, np.ndarray]] = []
        shared = total = 0
        for group in groups:
            among_episodes = self._relative(totals_of(group))
            among_steps, together = self._among_steps(rows, group)
            shared, total = shared + together, total + len(among_steps)
            lengths = [len(episode.rows) for episode in group]
            combined = np.repeat(among_episodes, lengths) + self.step_weight * among_steps
            pairs += zip(group, np.split(combined, np.cumsum(lengths)[:-1]), strict=True)
        metrics = group_metrics(groups) | {"rows_in_shared_states": shared / total}
        return episode_targets(rows, pairs, gamma=self.gamma, metrics=metrics)

    def _among_steps(self, rows: Rows, group: Sequence[Episode]) -> tuple[np.ndarray, int]:
        """A_step of the group's rows one after another, and how many of them share their state with another."""
        index = np.concatenate([episode.rows for episode in group])
        returns = np.concatenate([discounted_returns(episode.rewards, self.gamma) for episode in group])
        advantages, together = np.zeros(len(index)), 0
        states: dict[tuple[bytes, tuple[bytes, ...]], list[int]] = {}
        for place, row in enumerate(index):
            states.setdefault(rows.state(int(row)), []).append(place)
        for places in states.values():
            if len(places) > 1:
                advantages[places] = self._relative(returns[places])
                together += len(places)
        return advantages, together

    def _relative(self, values: np.ndarray) -> np.ndarray:
        return group_relative(values, float(values.std(ddof=1)) if self.normalized else None)
