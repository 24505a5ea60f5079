"""Waiting for Ray: every wait has a deadline, names what it waits for, and notices a wish to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from protocol.errors import CroupierError, DeadlineExceeded

POLL_S = 0.25
"""How often a wait looks up to see whether it should stop, in seconds."""


class StopRequested(Exception):
    """The user asked the run to end; raised out of waits that may be broken off."""


class StopFlag:
    """Set by the signal handler, read by the driver's waits."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        """Ask for a clean end."""
        self.is_set = True

    def raise_if_set(self) -> None:
        """Raise `StopRequested` if a stop was asked for."""
        if self.is_set:
            raise StopRequested


def wait_for(
    refs: Sequence[ray.ObjectRef],
    what: str,
    deadline_s: float,
    *,
    stop: StopFlag | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> list[Any]:
    """Results of Ray calls, in order; the first failure is raised as soon as it is there.

    Args:
        refs: The calls.
        what: Named in the error when the deadline passes.
        deadline_s: Longest wait for all of them, in seconds.
        stop: Break the wait off when it is set.
        meanwhile: Called at every poll (to redraw progress, to look after processes).

    Raises:
        DeadlineExceeded: Not all calls returned in time.
        StopRequested: `stop` was set.
        CroupierError: What a call itself raised, unwrapped from Ray's wrapper.
    """
    began = time.monotonic()
    pending = list(refs)
    results: dict[ray.ObjectRef, Any] = {}
    while pending:
        ready, pending = ray.wait(pending, num_returns=len(pending), timeout=POLL_S, fetch_local=False)
        results |= {ref: get(ref, what) for ref in ready}
        if meanwhile is not None:
            meanwhile()
        if pending and stop is not None:
            stop.raise_if_set()
        if pending and time.monotonic() - began > deadline_s:
            raise DeadlineExceeded(
                f"Waited {deadline_s:g} s for {what}; {len(pending)} of {len(refs)} call(s) have not returned.",
                "look at the Ray logs of that process, or raise the deadline if the machine is that slow",
            )
    return [results[ref] for ref in refs]


def get(ref: ray.ObjectRef, what: str, deadline_s: float = 60.0) -> Any:
    """Result of one Ray call that is (nearly) done; Croupier's own errors come out unwrapped.

    Raises:
        DeadlineExceeded: It did not arrive in time.
        CroupierError: What the call raised.
    """
    try:
        return ray.get(ref, timeout=deadline_s)
    except GetTimeoutError as error:
        raise DeadlineExceeded(f"Waited {deadline_s:g} s for {what}.") from error
    except RayTaskError as error:
        if isinstance(error.cause, CroupierError):
            raise error.cause from error
        raise
