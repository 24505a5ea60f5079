"""Numbers that change from step to step or from update to update by rule: plain functions of an index.

Functions of the index alone, never stepped: a resumed run or a second process cannot be a step ahead. (RL4VLM
stepped its scheduler once per process and update, and so ran through the cosine several times too fast and back up.)
"""

from __future__ import annotations

import math
from typing import Literal

Curve = Literal["linear", "cosine"]


def progress(curve: Curve, index: int, total: int) -> float:
    """Share of the way from start to end at `index`: 0 at 0, 1 from `total` on, along a line or half a cosine."""
    share = min(1.0, index / total)
    return share if curve == "linear" else 0.5 * (1.0 - math.cos(math.pi * share))


def warmup_factor(index: int, warmup: int) -> float:
    """Factor on the learning rate of step or update `index` (from 0): (index + 1) / (warmup + 1), at most 1."""
    return min(1.0, (index + 1) / (warmup + 1))


def learning_rate_factor(
    schedule: Literal["constant", "linear", "cosine"], index: int, *, warmup: int, total: int, final: float
) -> float:
    """Linear warm-up, then 1 (constant), or from 1 down to `final` at index `total`, and `final` from there on.

    Args:
        schedule: shape of the way down.
        index: step or update, from 0.
        warmup: indices below it are warm-up.
        total: index of arrival; not looked at by `constant`.
        final: factor of arrival, in [0, 1].
    """
    if schedule == "constant" or index < warmup:
        return warmup_factor(index, warmup)
    return 1.0 - (1.0 - final) * progress(schedule, index - warmup, max(1, total - warmup))
