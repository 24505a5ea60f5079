"""What a soak hears of its run while that goes on: a note of every update, and how fast each tenth of the run was."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from cluster.record.progress import Phase, RunProgress

ENDLESS = 1_000_000
"""Updates of a run that ends by the clock."""
TENTHS = 10
_LINES = 20
"""Lines that are printed over the whole run."""


@dataclass(frozen=True, slots=True)
class Update:
    """One update of the run."""

    ended_s: float
    """Since the end of the first one, which began with empty engines and is not counted."""
    took_s: float
    env_steps: float
    tokens: float
    idle: Mapping[str, float]
    """Share of the time without work: of engines, workers, learner."""
    restarts: float
    """Processes that were started anew since the run began."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a part of the run was."""

    steps_per_s: float
    tokens_per_s: float
    idle: Mapping[str, float]


class SoakProgress(RunProgress):
    """Shows a run without an end, and takes note of its updates.

    Args:
        console: Where to print.
        length_s: How long the run is to go on after its first update, in seconds.
        clock: Time in seconds.
    """

    def __init__(self, console: Console, length_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self._length_s = length_s
        self._clock = clock
        self._began_s: float | None = None
        self._told = 0
        self.updates: list[Update] = []

    @property
    def running_s(self) -> float | None:
        """Seconds since the first update ended; None before."""
        return None if self._began_s is None else self._clock() - self._began_s

    def is_over(self, at_s: float) -> bool:
        """Whether the run may end at this time: not before its length, nor long after an update, however slow."""
        return at_s >= self._length_s and bool(self.updates) and self.updates[-1].ended_s >= at_s / 2

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """See `RunProgress.phase`; a run that ends by the clock shows no bar."""
        with super().phase(name, None if total == ENDLESS else total) as phase:
            yield phase

    def row(self, update: int, total: int, values: Mapping[str, float]) -> None:
        """Note an update; every twentieth of the run one line is printed."""
        if self._began_s is None:
            self._began_s = self._clock()
            return
        ended_s = self._clock() - self._began_s
        self.updates.append(
            Update(
                ended_s,
                values["time/iteration_s"],
                values["rollout/env_steps"],
                values["rollout/sampled_tokens"],
                {who: values[f"idle/{who}"] for who in ("engines", "workers", "learner")},
                values["run/server_restarts"] + values["run/lost_rollouts"] + values["run/recycled_workers"],
            )
        )
        if ended_s >= self._told * self._length_s / _LINES:
            self._told = 1 + int(_LINES * ended_s / self._length_s)
            steps = values["run/env_steps"]
            self.say(f"{ended_s / 60:6.1f} of {self._length_s / 60:g} min: update {update}, {steps:,.0f} steps")


def steps_at(updates: Sequence[Update], at_s: Sequence[float]) -> list[float]:
    """Environment steps that were done at the given times, which begin at 0; even between two updates."""
    times = [0.0, *(update.ended_s for update in updates)]
    done = np.cumsum([0.0, *(update.env_steps for update in updates)])
    return np.interp(at_s, times, done).tolist()


def paces(updates: Sequence[Update], length_s: float) -> dict[int, Pace]:
    """Pace of every tenth of the run in which an update ended, by its number from 0."""
    own: dict[int, list[Update]] = {}
    for update in updates:
        own.setdefault(min(TENTHS - 1, int(TENTHS * update.ended_s / length_s)), []).append(update)
    return {tenth: _pace(some) for tenth, some in sorted(own.items())}


def _pace(updates: Sequence[Update]) -> Pace:
    took_s = sum(update.took_s for update in updates)

    def share(who: str) -> float:
        known = [update for update in updates if not math.isnan(update.idle[who])]
        known_s = sum(update.took_s for update in known)
        return sum(update.idle[who] * update.took_s for update in known) / known_s if known else math.nan

    return Pace(
        sum(update.env_steps for update in updates) / took_s,
        sum(update.tokens for update in updates) / took_s,
        {who: share(who) for who in updates[0].idle},
    )
