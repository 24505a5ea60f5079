"""What sampled rows led to: the action that was taken, what was read rightly, how the episode ended.

Needed to choose rows and pairs of rows, not by the policy update; so it is kept apart from `learner.rows`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from learner.episodes import Episode, whole_episodes
from learner.rows import Rows
from protocol.codec import TrajectoryBatch
from protocol.row_info import ENVIRONMENT_REWARD, RECOGNIZED, SUCCESS


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Beside N rows, in their order."""

    actions: list[str]
    """Name of the action that the environment took."""
    recognized: list[bool | None]
    """Whether every perception field was right; None where nothing had to be read."""
    environment_rewards: np.ndarray
    """float64 [N]: the environment's own rewards, whatever was paid."""
    episodes: list[Episode]
    """The whole episodes among the rows."""
    successes: list[bool]
    """One entry per whole episode: the task's own verdict, or a return above 0 in rows that do not hold it."""

    def episode_return(self, episode: Episode) -> float:
        """Undiscounted sum of the environment's own rewards."""
        return float(self.environment_rewards[episode.rows].sum())


def read_outcomes(batches: Sequence[TrajectoryBatch], rows: Rows) -> Outcomes:
    """Outcomes of `rows = gather_rows(batches)`.

    Raises:
        TrajectoryError: No episode is whole.
    """
    actions = [name for batch in batches for name in batch.steps.column("action").to_pylist()]
    infos = [json.loads(text) for batch in batches for text in batch.steps.column("info").to_pylist()]
    paid = rows.rewards.astype(np.float64).tolist()
    rewards = np.array([info.get(ENVIRONMENT_REWARD, own) for info, own in zip(infos, paid, strict=True)])
    episodes = whole_episodes(rows, 1.0)
    return Outcomes(
        actions=actions,
        recognized=[_all_right(info.get(RECOGNIZED)) for info in infos],
        environment_rewards=rewards,
        episodes=episodes,
        successes=[_success(infos, rewards, episode) for episode in episodes],
    )


def _all_right(recognized: dict[str, bool] | None) -> bool | None:
    return all(recognized.values()) if recognized else None


def _success(infos: Sequence[dict[str, Any]], rewards: np.ndarray, episode: Episode) -> bool:
    told = infos[int(episode.rows[-1])].get(SUCCESS)
    return bool(rewards[episode.rows].sum() > 0) if told is None else bool(told)
