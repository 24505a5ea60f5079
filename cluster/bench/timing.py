"""Measuring fairly on a machine that is not ours alone: CPU time, contenders in turn, the same work for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import process_time
from typing import TypeVar

clock = process_time
"""Seconds of CPU time that this process has spent, all of its threads together."""

T = TypeVar("T")


class Stopwatch:
    """Adds up the CPU time of many short spans: `with watch: ...`."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self.spans = 0
        self._began_s = 0.0

    def __enter__(self) -> None:
        self._began_s = clock()

    def __exit__(self, *error: object) -> None:
        self.total_s += clock() - self._began_s
        self.spans += 1

    @property
    def mean_s(self) -> float:
        """Seconds per span.

        Raises:
            ValueError: Nothing was timed.
        """
        if not self.spans:
            raise ValueError("nothing was timed; measure more repeats or steps")
        return self.total_s / self.spans


def interleave(
    contenders: Mapping[str, Callable[[int], T]], repeats: int, tick: Callable[[int], None] = lambda done: None
) -> dict[str, list[T]]:
    """Run all contenders in turn, A, B, A, B, ..., after one round that does not count.

    Args:
        contenders: Name to what is run; it is given the number of the round to choose the same work as the others.
            Rounds count from 0; the one that does not count has the number `repeats`, so that no counted round
            repeats its work and finds every cache filled with it.
        repeats: Rounds that count.
        tick: Told after every round how many are done, the warming one included.

    Returns:
        What each contender returned, in the order of the rounds.
    """
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for run in contenders.values():
        run(repeats)
    tick(1)
    for number in range(repeats):
        for name, run in contenders.items():
            results[name].append(run(number))
        tick(number + 2)
    return results


def column(results: Sequence[Mapping[str, float]], key: str) -> list[float]:
    """One quantity out of the results of all rounds."""
    return [result[key] for result in results]
