"""What runs of a sweep came to: read from their cards, and summed up over seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

from cluster.record.run_dir import RunDir
from cluster.sweep.variants import Variant

POINTS = ("before_greedy", "after_greedy", "before_sampled", "after_sampled")
"""Evaluations of a run's card, as the tables show them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run."""

    variant: Variant
    run: Path
    results: dict[str, Any] | None
    """Evaluations of the run's card by name; None: it did not end well."""
    rl_wall_s: float = math.nan
    """Wall clock of its reinforcement learning, in seconds."""

    def rate(self, point: str, key: str = "success_rate") -> float:
        """A number of an evaluation; NaN where it was not made."""
        value = (self.results or {}).get(point, {}).get(key)
        return math.nan if value is None else float(value)


def outcome_of(variant: Variant, run: Path) -> Outcome:
    """Read a run's card; a run without a finished one has no results."""
    card = RunDir(run).card
    if not card.is_file():
        return Outcome(variant, run, None)
    told = json.loads(card.read_text())
    results = told.get("results", {})
    finished = any(name.startswith("after") or "/after" in name for name in results)
    return Outcome(variant, run, results if finished else None, told.get("totals", {}).get("rl_wall_s", math.nan))


@dataclass(frozen=True, slots=True)
class Spread:
    """A number over seeds."""

    mean: float
    low: float
    high: float
    """Student's 95 % interval for the mean over seeds, within [0, 1]; NaN with a single seed."""
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where no run told it."""
        known = tuple(value for value in values if not math.isnan(value))
        if not known:
            return None
        mean = statistics.fmean(known)
        if len(known) == 1:
            return cls(mean, math.nan, math.nan, known)
        half = float(student_t.ppf(0.975, len(known) - 1)) * statistics.stdev(known) / math.sqrt(len(known))
        return cls(mean, max(0.0, mean - half), min(1.0, mean + half), known)

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{100 * self.mean:.1f} %"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}] %"
