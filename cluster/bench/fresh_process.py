"""A process of its own for what must be measured from its start, or must not touch the one that measures."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from protocol.errors import CroupierError, DeadlineExceeded

T = TypeVar("T")

_START_S = 120.0
"""Longest wait for a process that has yet to import its modules, in seconds."""


class ProbeDied(CroupierError, RuntimeError):
    """A process that measured ended before it answered."""


class FreshProcess:
    """A spawned process that runs module-level functions one at a time, until the block ends.

    Args:
        prepare: Run first in the new process.
    """

    def __init__(self, prepare: Callable[[], None] | None = None) -> None:
        # Spawned: a fork would inherit what this process has imported, patched and cached.
        self._executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (prepare,))
        self._process: BaseProcess

    def __enter__(self) -> FreshProcess:
        others = set(multiprocessing.active_children())
        started = self._executor.submit(os.getpid)
        (self._process,) = set(multiprocessing.active_children()) - others
        try:
            self._wait(started, _START_S, "the start of a process that measures")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(wait=True)

    def call(self, deadline_s: float, function: Callable[..., T], *arguments: Any) -> T:
        """Result of the function in the other process.

        Raises:
            DeadlineExceeded: It took longer than `deadline_s`; the process has been killed.
            ProbeDied: The process ended first.
            Exception: What the function raised.
        """
        return self._wait(self._executor.submit(function, *arguments), deadline_s, f"{function.__name__} to measure")

    def _wait(self, future: Future[T], deadline_s: float, what: str) -> T:
        try:
            return future.result(deadline_s)
        except BrokenProcessPool as died:
            raise ProbeDied(
                f"The process ended while the benchmark waited for {what}.",
                "look above for its last words; most often memory ran out",
            ) from died
        except TimeoutError as late:
            if future.done():  # raised by the function itself
                raise
            self._process.kill()
            raise DeadlineExceeded(
                f"Waited {deadline_s:g} s for {what}.", "run again when the machine is less busy"
            ) from late


def _begin(prepare: Callable[[], None] | None) -> None:
    """In the new process: end with the parent, however it ends, then prepare."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a child only

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if prepare is not None:
        prepare()
