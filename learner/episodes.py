"""Rows put together to whole episodes, and episodes to groups that begin in the same state.

An episode that was cut at the end of a batch comes in several trajectories, and often in several updates. It is whole
only if all its rows are in this update's table: its rows count up from 0 without a gap, and the last one terminated
or was truncated by the environment's step limit. What is not whole has no return; it is left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from learner.rows import Rows, trajectory_slices
from protocol.errors import TrajectoryError
from protocol.trajectory import EndReason

_ENDS = (EndReason.TERMINATED, EndReason.TRUNCATED)


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """One whole episode."""

    rows: np.ndarray
    """int64 [L]: its rows, in the order of its steps."""
    component: str
    """See `Rows.components`."""
    start: tuple[str, str, int]
    """Environment, component and reset seed: equal ones begin in equal states."""
    rewards: np.ndarray
    """float64 [L], scaled."""

    @property
    def total(self) -> float:
        """Undiscounted sum of rewards."""
        return float(self.rewards.sum())


def whole_episodes(rows: Rows, reward_scale: float) -> list[Episode]:
    """The whole episodes, in the order of their first rows.

    Raises:
        TrajectoryError: There is none.
    """
    slices, components = trajectory_slices(rows.last_rows), rows.components
    pieces: dict[str, list[int]] = {}
    for number, piece in enumerate(slices):
        pieces.setdefault(rows.episode_ids[piece.start], []).append(number)
    episodes = []
    for numbers in pieces.values():
        numbers = sorted(numbers, key=lambda n: int(rows.steps[slices[n].start]))
        index = np.concatenate([np.arange(slices[n].start, slices[n].stop) for n in numbers])
        without_gap = np.array_equal(rows.steps[index], np.arange(len(index)))
        if not without_gap or rows.end_reasons[numbers[-1]] not in _ENDS:
            continue
        first = int(index[0])
        start = (rows.env_ids[first], components[first], int(rows.reset_seeds[first]))
        rewards = rows.rewards[index].astype(np.float64) * reward_scale
        episodes.append(Episode(index, components[first], start, rewards))
    if not episodes:
        raise TrajectoryError(
            f"None of the {len(pieces)} episodes in {len(rows)} rows is whole: each was cut, or begins before this "
            "update.",
            "raise rollout.steps_per_update, let rollouts end with whole episodes, or use an algorithm with a critic "
            "(learner.algorithm=ppo)",
        )
    return episodes


def equal_starts(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """Groups of two or more episodes that begin in the same state, in the order of their first members.

    Raises:
        TrajectoryError: There is none.
    """
    groups: dict[tuple[str, str, int], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(episode.start, []).append(episode)
    found = [group for group in groups.values() if len(group) > 1]
    if not found:
        raise TrajectoryError(
            f"The {len(episodes)} whole episodes begin in {len(groups)} different states: no two can be compared.",
            "sample several episodes per reset seed (rollout.group_size), or use an algorithm without groups "
            "(learner.algorithm=ppo or reinforce)",
        )
    return found
