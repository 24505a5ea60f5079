"""What share of the time the engines of a run had no request, and why: what their meters say, from look to look."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.delays import CAUSES, OTHER

RESTARTS = "restarts"
ENGINE_CAUSES: tuple[str, ...] = (*CAUSES[:-1], RESTARTS, OTHER)
"""What an engine of a run can be idle for, in the order of tables."""

IDLE = "idle/engines"
"""The metric; `idle/engines/learner` and so on are its parts."""


@dataclass(frozen=True, slots=True)
class _Meter:
    """A server's counters at a look, in seconds; all 0 while its process is gone or its engine starts."""

    at_s: float
    """When it was looked at, on the clock of whoever looks."""
    busy_s: float = 0.0
    serving_s: float = 0.0
    idle_s: tuple[float, ...] = (0.0,) * len(CAUSES)

    @classmethod
    def read(cls, at_s: float, status: Mapping[str, Any] | None) -> _Meter:
        if status is None or not status["started"]:
            return cls(at_s)
        return cls(at_s, status["busy_s"], status["serving_s"], tuple(status["idle_s"][cause] for cause in CAUSES))


class IdleShares:
    """Turns the meters of several servers into shares of the time.

    An engine without a request at the look is taken up to its last answer: why it is idle shows when the next request
    comes, and the seconds until then belong to the next look. So the causes add up to the idle share. Where that
    leaves nothing, because no request came between two looks, the whole time counts as idle for another cause.

    Args:
        clock: Seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._meters: dict[int, _Meter] = {}

    def look(self, statuses: Mapping[int, Mapping[str, Any] | None]) -> dict[str, float]:
        """`idle/engines` and its causes since the last look, over all servers; NaN where none was looked at twice.

        Args:
            statuses: What servers say about themselves (see `ServerActor.status`), by number; None: its process is
                gone. One that did not answer in time is left out.
        """
        now_s = self._clock()
        busy_s, idle_s = 0.0, dict.fromkeys(ENGINE_CAUSES, 0.0)
        for index, status in statuses.items():
            now = _Meter.read(now_s, status)
            before = self._meters.get(index)
            self._meters[index] = now
            if before is None:
                continue
            if now.serving_s <= before.serving_s:  # its process is another one, or gone; before, it counted from 0
                before = _Meter(before.at_s)
            if not before.serving_s:
                idle_s[RESTARTS] += max(0.0, now.at_s - before.at_s - now.serving_s)
            busy_s += now.busy_s - before.busy_s
            self._add(idle_s, now, before)
        passed_s = busy_s + sum(idle_s.values())
        shares = {cause: seconds / passed_s if passed_s else math.nan for cause, seconds in idle_s.items()}
        return {IDLE: sum(shares.values()), **{f"{IDLE}/{cause}": share for cause, share in shares.items()}}

    def _add(self, idle_s: dict[str, float], now: _Meter, before: _Meter) -> None:
        explained = [later - earlier for later, earlier in zip(now.idle_s, before.idle_s, strict=True)]
        if now.busy_s == before.busy_s and not any(explained):
            idle_s[OTHER] += now.serving_s - before.serving_s
            return
        for cause, seconds in zip(CAUSES, explained, strict=True):
            idle_s[cause] += seconds


def main_cause(values: Mapping[str, float]) -> str | None:
    """What the engines were idle for most, in a row of metrics; None where that is not known."""
    known = {cause: values.get(f"{IDLE}/{cause}", math.nan) for cause in ENGINE_CAUSES}
    told = {cause: share for cause, share in known.items() if share > 0}
    return max(told, key=lambda cause: told[cause]) if told else None
