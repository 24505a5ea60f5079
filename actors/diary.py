"""What a slot does between an answer and its next request, written down for `Delays`. Pure bookkeeping."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable

from actors.delays import Delays

BREATH_S = 0.002
"""Between two stretches of work that follow each other without a rest, in seconds."""

REMEMBERED_WORK = 1024
"""Stretches of work that a `WorkLog` can look back on at least."""


class WorkLog:
    """When the environments of one worker were at work. They share its thread with everything else, so that an answer
    that comes meanwhile is looked at only later."""

    def __init__(self) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._worked_s: list[float] = []
        """Work up to the end of every stretch."""
        self._run_begins: list[float] = []
        self._run_ends: list[float] = []
        """Of stretches in a row, without a rest."""

    def add(self, began_s: float, ended_s: float) -> None:
        """Work that has just ended; seconds that are in the log already do not count again."""
        last_s = self._ends[-1] if self._ends else -math.inf
        began_s = max(began_s, last_s)
        if began_s >= ended_s:
            return
        self._worked_s.append((self._worked_s[-1] if self._worked_s else 0.0) + ended_s - began_s)
        self._begins.append(began_s)
        self._ends.append(ended_s)
        if began_s <= last_s + BREATH_S:
            self._run_ends[-1] = ended_s
        else:
            self._run_begins.append(began_s)
            self._run_ends.append(ended_s)
        if len(self._ends) == 2 * REMEMBERED_WORK:
            self._forget()

    def since(self, began_s: float) -> float:
        """Seconds of work after this moment."""
        return self._worked_s[-1] - self._until(began_s) if self._ends else 0.0

    def following(self, began_s: float) -> float:
        """Seconds of work from this moment on until the first rest."""
        run = bisect_right(self._run_ends, began_s)
        if run == len(self._run_ends) or self._run_begins[run] > began_s + BREATH_S:
            return 0.0
        return self._until(self._run_ends[run]) - self._until(began_s)

    def _until(self, moment_s: float) -> float:
        """Seconds of work before this moment."""
        place = bisect_right(self._ends, moment_s)
        if place == len(self._ends):
            return self._worked_s[-1]
        return self._worked_s[place] - (self._ends[place] - max(self._begins[place], moment_s))

    def _forget(self) -> None:
        for times in (self._begins, self._ends, self._worked_s):
            del times[:REMEMBERED_WORK]
        old_runs = bisect_right(self._run_ends, self._begins[0])
        del self._run_begins[:old_runs], self._run_ends[:old_runs]


class Diary:
    """One slot's.

    Args:
        work: Of all the slots of its worker.
        clock: Seconds that only ever grow.
    """

    def __init__(self, work: WorkLog | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._work = work or WorkLog()
        self._clock = clock
        self._since_s = clock()
        """When the slot began what it does now."""
        self._way_s = self._step_s = self._order_s = 0.0

    def begin(self) -> None:
        """The slot, which had no leave to play, has got it."""
        now_s = self._clock()
        worked_s = self._work.since(self._since_s)  # by slots that had leave: their environments were awaited
        self._step_s += worked_s
        self._order_s += now_s - self._since_s - worked_s
        self._since_s = now_s

    def end(self) -> None:
        """The slot has lost its leave to play."""
        now_s = self._clock()
        if self._order_s:  # it had leave and made no use of it
            self._order_s += now_s - self._since_s
        else:
            self._work.add(self._since_s, now_s)
            self._step_s += now_s - self._since_s
        self._since_s = now_s

    def sent(self) -> Delays:
        """A request is made; what it tells."""
        now_s = self._clock()
        self._work.add(self._since_s, now_s)
        delays = Delays(self._way_s, self._step_s, self._order_s, now_s - self._since_s)
        self._way_s = self._step_s = self._order_s = 0.0
        self._since_s = now_s
        return delays

    def answered(self, waited_s: float, sample_s: float) -> None:
        """An answer is there.

        Args:
            waited_s: Since the request was made.
            sample_s: The server's part of it.
        """
        now_s = self._since_s = self._clock()
        overdue_s = max(0.0, waited_s - sample_s)
        # Work that followed the request kept it from leaving; work while the answer was due kept it from being seen.
        self._step_s = min(overdue_s, self._work.following(now_s - waited_s) + self._work.since(now_s - overdue_s))
        self._way_s = overdue_s - self._step_s
