"""From samples over a long run to its course: levels, slope by least squares, and whether it grows.

Pure functions of numbers. The rule: a quantity grows if the straight line through the last two thirds of the run rises
there by more than `TOLERANCE` of the level, by more than a floor of its unit (`FLOORS`), and by more than `SURE`
standard errors. Everything else is flat, also what falls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cluster.bench.result import Course
from protocol.errors import CroupierError

TOLERANCE = 0.02
"""Rise that counts as none, as a share of the level."""
SURE = 3.0
"""Standard errors that a rise must exceed."""
FLOORS = {"MB": 5.0, "number": 2.0}
"""Rise that counts as none, by unit."""

SETTLED = 1 / 3
"""Share of the run that the slope leaves out: caches and allocators fill."""
LEVEL = 0.05
"""Share of the run that a level is the median of."""
CURVE_POINTS = 121
LEAST_SAMPLES = 4
"""Samples in the last two thirds, below which no line is drawn."""


class RunTooShort(CroupierError, RuntimeError):
    """A run ended before anything could be said about its course."""


def course_of(part: str, case: str, unit: str, at_s: ArrayLike, steps: ArrayLike, values: ArrayLike) -> Course:
    """The course of one quantity.

    Args:
        part, case, unit: What it is; the unit is one of `FLOORS`.
        at_s: Times of the samples in seconds, growing; the run begins at 0 and ends with the last one.
        steps: Environment steps done at those times.
        values: The samples.

    Raises:
        RunTooShort: There are too few samples, or no steps, in the last two thirds.
    """
    times, x, y = np.asarray(at_s, float), np.asarray(steps, float) / 1000, np.asarray(values, float)
    settled = times >= SETTLED * times[-1]
    if settled.sum() < LEAST_SAMPLES or np.ptp(x[settled]) == 0:
        raise RunTooShort(
            f"{case}: {settled.sum()} samples over {1000 * np.ptp(x[settled]):.0f} environment steps in the last two "
            f"thirds of {times[-1]:.1f} s; a slope needs {LEAST_SAMPLES} samples and steps between them.",
            "let it run longer",
        )
    slope, error = _line(x[settled], y[settled])
    rise, level = slope * np.ptp(x[settled]), float(np.median(y[settled]))
    nothing = max(TOLERANCE * level, FLOORS[unit], SURE * error * np.ptp(x[settled]))
    return Course(
        part=part,
        case=case,
        unit=unit,
        at_tenth=_level(times, y, 0.1),
        at_half=_level(times, y, 0.5),
        at_end=_level(times, y, 1.0),
        peak=_rounded(y.max()),
        slope=_rounded(slope),
        slope_error=_rounded(error),
        grows=bool(rise > nothing),
        minutes=_rounded(times[-1] / 60),
        curve=tuple(map(_rounded, np.interp(np.linspace(0, times[-1], CURVE_POINTS), times, y))),
    )


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line and its standard error, the scatter around it taken to be independent."""
    off = x - x.mean()
    slope = float(off @ y / (off @ off))
    scatter = y - y.mean() - slope * off
    return slope, float(np.sqrt(scatter @ scatter / (len(x) - 2) / (off @ off)))


def _level(times: np.ndarray, values: np.ndarray, share: float) -> float:
    """Median of the samples of the twentieth of the run that ends at `share`; of the nearest one where it has none."""
    within = (times >= (share - LEVEL) * times[-1]) & (times <= share * times[-1])
    if not within.any():
        within = np.abs(times - share * times[-1]) == np.abs(times - share * times[-1]).min()
    return _rounded(float(np.median(values[within])))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
