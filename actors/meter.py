"""How busy a server is: the seconds in which at least one request was live. Pure bookkeeping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class BusyMeter:
    """Counts live requests, and the seconds in which there were any.

    Between two looks, the idle share of an engine is 1 - (difference of `busy_s`) / (difference of `serving_s`).

    Args:
        clock: Seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._serving_since_s: float | None = None
        self._busy_since_s = 0.0
        self._busy_s = 0.0
        self.in_flight = 0
        """Live requests."""

    def begin_serving(self) -> None:
        """From now on time without a request counts as idle."""
        self._serving_since_s = self._clock()

    @contextmanager
    def live(self, requests: int = 1) -> Iterator[None]:
        """So many requests are live inside the block."""
        self._change(requests)
        try:
            yield
        finally:
            self._change(-requests)

    @property
    def serving_s(self) -> float:
        """Seconds since `begin_serving`; 0 before it."""
        return 0.0 if self._serving_since_s is None else self._clock() - self._serving_since_s

    @property
    def busy_s(self) -> float:
        """Seconds with at least one live request, up to now."""
        return self._busy_s + (self._clock() - self._busy_since_s if self.in_flight else 0.0)

    def _change(self, requests: int) -> None:
        before, self.in_flight = self.in_flight, self.in_flight + requests
        if bool(before) == bool(self.in_flight):
            return
        now = self._clock()
        if before:
            self._busy_s += now - self._busy_since_s
        self._busy_since_s = now
