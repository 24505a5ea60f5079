"""How busy a server is, and what it waits for when it is not. Pure bookkeeping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actors.delays import CAUSES, LEARNER, OTHER, UNTOLD, Delays


class BusyMeter:
    """Counts live requests, the seconds in which there were any, and the others by cause.

    Between two looks, the idle share of an engine is 1 - (difference of `busy_s`) / (difference of `serving_s`).

    An idle time is explained when it ends, by the request that ends it: what its sender did is laid out backwards from
    that moment until the idle time is used up. What is then left has no known cause. Where the sender waited for leave
    to play, or no cause is known, and the server was held up itself (see `held_up`), that is the cause.

    Args:
        clock: Seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._serving_since_s: float | None = None
        self._busy_since_s = self._idle_since_s = 0.0
        self._busy_s = 0.0
        self._idle_s = dict.fromkeys(CAUSES, 0.0)
        self._holds = 0
        """How often the server is held up right now."""
        self._held_up: list[tuple[str, float, float]] = []
        """Cause, beginning and end of whatever held it up in the idle time going on; the end of the last may be
        open."""
        self.in_flight = 0
        """Live requests."""

    def begin_serving(self) -> None:
        """From now on time without a request counts as idle."""
        self._serving_since_s = self._idle_since_s = self._clock()

    @contextmanager
    def live(self, requests: int = 1, delays: Delays = UNTOLD) -> Iterator[None]:
        """So many requests are live inside the block; `delays` are of the one that was made last."""
        self._change(requests, delays)
        try:
            yield
        finally:
            self._change(-requests, UNTOLD)

    @contextmanager
    def held_up(self, cause: str) -> Iterator[None]:
        """Inside the block the server is occupied with itself. Of blocks that overlap, the first names the cause."""
        if not self._holds:
            if self.in_flight:
                self._held_up.clear()  # what is over has kept nobody waiting
            self._held_up.append((cause, self._clock(), math.inf))
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._held_up[-1] = *self._held_up[-1][:2], self._clock()

    @property
    def serving_s(self) -> float:
        """Seconds since `begin_serving`; 0 before it."""
        return 0.0 if self._serving_since_s is None else self._clock() - self._serving_since_s

    @property
    def busy_s(self) -> float:
        """Seconds with at least one live request, up to now."""
        return self._busy_s + (self._clock() - self._busy_since_s if self.in_flight else 0.0)

    @property
    def idle_s(self) -> dict[str, float]:
        """Seconds without a request by cause. An idle time going on is not among them: its cause is not known yet."""
        return dict(self._idle_s)

    def _change(self, requests: int, delays: Delays) -> None:
        before, self.in_flight = self.in_flight, self.in_flight + requests
        if bool(before) == bool(self.in_flight):
            return
        now = self._clock()
        if before:
            self._busy_s += now - self._busy_since_s
            self._idle_since_s = now
            self._held_up = [hold for hold in self._held_up if hold[2] > now]
            return
        self._busy_since_s = now
        if self._serving_since_s is not None:
            self._explain(now, delays)

    def _explain(self, ended_s: float, delays: Delays) -> None:
        for cause, seconds in delays.backwards():
            began_s = max(self._idle_since_s, ended_s - seconds)
            self._count(cause, began_s, ended_s)
            ended_s = began_s
        self._count(OTHER, self._idle_since_s, ended_s)

    def _count(self, cause: str, began_s: float, ended_s: float) -> None:
        left_s = ended_s - began_s
        for own_cause, begin, end in self._held_up if cause in (LEARNER, OTHER) else ():
            held_s = max(0.0, min(ended_s, end) - max(began_s, begin))
            self._idle_s[own_cause] += held_s
            left_s -= held_s
        self._idle_s[cause] += left_s
