"""Advantages of whole episodes, put back into the table of rows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from learner.advantages import discounted_returns
from learner.episodes import Episode
from learner.rows import Rows
from learner.targets import Targets


def episode_targets(
    rows: Rows, advantages: Iterable[tuple[Episode, np.ndarray]], *, gamma: float, metrics: dict[str, float]
) -> Targets:
    """Targets that train on the given episodes' rows only.

    Args:
        rows: N rows.
        advantages: episodes of L steps each with float64 [L].
        gamma: discount of the returns that metrics report.
        metrics: kept; how many rows were used and left out is added.
    """
    filled, returns = torch.zeros(len(rows)), torch.zeros(len(rows))
    used = np.zeros(len(rows), dtype=bool)
    for episode, values in advantages:
        index = torch.from_numpy(episode.rows)
        filled[index] = torch.from_numpy(values).float()
        returns[index] = torch.from_numpy(discounted_returns(episode.rewards, gamma)).float()
        used[episode.rows] = True
    counts = {"rows_left_out": float(len(rows) - used.sum())}
    return Targets(filled, returns, None, np.flatnonzero(used), metrics | counts)
