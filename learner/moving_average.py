"""Exponential moving averages of named numbers, unbiased from the first observation on."""

from __future__ import annotations


class MovingAverages:
    """One average per name: sum of (1 - s) * s^age * value, divided by the sum of its weights.

    The division removes the pull towards a start value of 0 (Adam's bias correction, arXiv 1412.6980, section 3).

    Args:
        smoothing: s, weight of the past, in [0, 1).
    """

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, value: float) -> None:
        """Observe a value."""
        total, weight = self._sums.get(name, (0.0, 0.0))
        new = 1.0 - self._smoothing
        self._sums[name] = (self._smoothing * total + new * value, self._smoothing * weight + new)

    def value(self, name: str) -> float | None:
        """The average; None before the first observation."""
        if name not in self._sums:
            return None
        total, weight = self._sums[name]
        return total / weight

    def state(self) -> dict[str, list[float]]:
        """JSON-able state; Python writes floats so that they read back equal."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def load_state(self, state: dict[str, list[float]]) -> None:
        """Take up a state, bit for bit."""
        self._sums = {name: (float(total), float(weight)) for name, (total, weight) in state.items()}
