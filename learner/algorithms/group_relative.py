"""Advantages of whole episodes against others of the same initial state. Used by rloo and grpo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learner.advantages import group_relative, leave_one_out
from learner.algorithms.episode_targets import episode_targets
from learner.episodes import Episode, equal_starts, whole_episodes
from learner.moving_average import MovingAverages
from learner.policy import Policy
from learner.rows import Rows
from learner.targets import Targets


@dataclass(frozen=True, slots=True)
class LeaveOneOutAdvantages:
    """RLOO (arXiv 2402.14740): an episode's sum of rewards minus the mean of the others in its group.

    Every row of an episode has the episode's advantage. Deviation: there one response is one episode.
    """

    gamma: float
    """Of reported returns only."""
    reward_scale: float

    def __call__(self, policy: Policy, rows: Rows) -> Targets:
        """See `learner.algorithms.base.AdvantageEstimator`; the policy is not asked."""
        groups = equal_starts(whole_episodes(rows, self.reward_scale))
        advantages = [leave_one_out(totals_of(group)) for group in groups]
        return group_targets(rows, groups, advantages, self.gamma)


@dataclass(frozen=True, slots=True)
class GroupRelativeAdvantages:
    """GRPO (arXiv 2402.03300): sum of rewards minus the group's mean, over a standard deviation.

    `memory` None divides by nothing (Dr. GRPO, arXiv 2503.20783) or, with `per_group`, by the unbiased deviation of
    the group itself. With a memory the divisor is the moving average, over updates, of the mean deviation of an
    environment's groups: EMA-GRPO as we read the abstract and the project page of arXiv 2512.03043, which speak of
    task-wise moving averages of reward deviations; its code was not seen.
    """

    gamma: float
    """Of reported returns only."""
    reward_scale: float
    per_group: bool
    memory: MovingAverages | None

    def __call__(self, policy: Policy, rows: Rows) -> Targets:
        """See `learner.algorithms.base.AdvantageEstimator`; the policy is not asked."""
        groups = equal_starts(whole_episodes(rows, self.reward_scale))
        totals = [totals_of(group) for group in groups]
        scales = self._scales([group[0].component for group in groups], totals)
        advantages = [group_relative(t, scale) for t, scale in zip(totals, scales, strict=True)]
        return group_targets(rows, groups, advantages, self.gamma)

    def _scales(self, components: Sequence[str], totals: Sequence[np.ndarray]) -> list[float | None]:
        deviations = [float(values.std(ddof=1)) for values in totals]
        if self.memory is None:
            return [deviation if self.per_group else None for deviation in deviations]
        for name in sorted(set(components)):
            own = [d for component, d in zip(components, deviations, strict=True) if component == name]
            self.memory.add(name, float(np.mean(own)))
        return [self.memory.value(component) for component in components]


def totals_of(group: Sequence[Episode]) -> np.ndarray:
    """Sum of rewards of each episode, float64 [K]."""
    return np.array([episode.total for episode in group])


def group_targets(
    rows: Rows, groups: Sequence[Sequence[Episode]], advantages: Sequence[np.ndarray], gamma: float
) -> Targets:
    """Targets in which every row has its episode's advantage (one float64 [K] per group of K episodes)."""
    pairs = [
        (episode, np.full(len(episode.rows), value))
        for group, values in zip(groups, advantages, strict=True)
        for episode, value in zip(group, values, strict=True)
    ]
    return episode_targets(rows, pairs, gamma=gamma, metrics=group_metrics(groups))


def group_metrics(groups: Sequence[Sequence[Episode]]) -> dict[str, float]:
    """How many groups there are, of what size, and in which share of them all episodes ended alike."""
    flat = [len({episode.total for episode in group}) == 1 for group in groups]
    return {
        "groups": float(len(groups)),
        "group_size_mean": float(np.mean([len(group) for group in groups])),
        "groups_without_signal": float(np.mean(flat)),
    }
