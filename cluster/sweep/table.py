"""The table and the JSON of a sweep."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Column, Table

from cluster.sweep.outcome import POINTS, Outcome, Spread


def grouped(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Runs by variant, seeds together, in the order in which they were asked for."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.variant.label, []).append(outcome)
    return groups


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """Success before -> after of every variant: mean over seeds, with its interval; the median of the
    wall clock of RL."""
    table = Table(Column("variant", overflow="fold"), "runs", "greedy", "sampled", "state read right", "RL, s")
    for label, runs in grouped(outcomes).items():
        done = [run for run in runs if run.results is not None]
        cells = [_pair(done, mode, "success_rate") for mode in ("greedy", "sampled")]
        reading = _pair(done, "greedy", "recognition_accuracy")
        walls = [run.rl_wall_s for run in done if not math.isnan(run.rl_wall_s)]
        wall = f"{statistics.median(walls):.0f}" if walls else "-"
        table.add_row(label, f"{len(done)}/{len(runs)}", *cells, reading, wall)
    return table


def to_json(outcomes: Sequence[Outcome], command: str) -> dict[str, Any]:
    """Plain values: every run, and the spread of every variant."""
    variants = {
        label: {
            "runs": len(runs),
            **{
                point: {"mean": spread.mean, "ci95": [spread.low, spread.high] if len(spread.values) > 1 else None}
                for point in POINTS
                if (spread := Spread.of([run.rate(point) for run in runs])) is not None
            },
        }
        for label, runs in grouped(outcomes).items()
    }
    told = [
        {
            "variant": one.variant.label,
            "seed": one.variant.seed,
            "run": str(one.run),
            "finished": one.results is not None,
            "rl_wall_s": None if math.isnan(one.rl_wall_s) else one.rl_wall_s,
            "results": one.results,
        }
        for one in outcomes
    ]
    return {"command": command, "variants": variants, "runs": told}


def _pair(runs: Sequence[Outcome], mode: str, key: str) -> str:
    spreads = [Spread.of([run.rate(f"{when}_{mode}", key) for run in runs]) for when in ("before", "after")]
    return " -> ".join("-" if spread is None else str(spread) for spread in spreads)
