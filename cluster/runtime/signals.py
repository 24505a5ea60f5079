"""Ctrl-C and SIGTERM as a request to end cleanly."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.record.progress import RunProgress
from cluster.runtime.waiting import StopFlag


@contextmanager
def stop_on_signal(stop: StopFlag, progress: RunProgress) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a clean stop; the second one ends the program at once."""

    def handle(signum: int, frame: Any) -> None:
        if stop.is_set:
            raise KeyboardInterrupt
        stop.set()
        progress.say("Stopping: writing a checkpoint first (Ctrl-C again ends at once).")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
