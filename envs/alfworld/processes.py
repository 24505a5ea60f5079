"""Doing the same for many items in a few processes; the engine allows no threads."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from envs.alfworld.errors import GenerationError

MOST_PROCESSES = 8
"""Each takes about 100 MB; generation is quick with few."""

T = TypeVar("T")
R = TypeVar("R")

_ITEM_DEADLINE_S = 300.0
"""Longest wait for the next result; a game of the largest size takes about a second."""


def usual_processes() -> int:
    """One for each core that this process may use, within a bound."""
    return max(1, min(MOST_PROCESSES, len(os.sched_getaffinity(0))))


def each_in_processes(work: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """Results in the order of the items, as they come.

    Args:
        work: must survive pickling where `workers` is more than one, as must items and results.
        items: what to work on.
        workers: processes; one is this process itself.

    Raises:
        GenerationError: a process died, or a result took too long.
        Exception: whatever `work` raises; the remaining items are then left alone.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    context = multiprocessing.get_context("spawn")  # a fork would inherit the threads and locks of this process
    pool = ProcessPoolExecutor(min(workers, len(items) or 1), mp_context=context, initializer=_follow_parent)
    stuck = False
    try:
        futures = [pool.submit(work, item) for item in items]
        for future in futures:
            yield future.result(timeout=_ITEM_DEADLINE_S)
    except BrokenProcessPool as error:
        raise GenerationError(f"one of {workers} processes died, perhaps for want of memory: try fewer") from error
    except TimeoutError as error:
        stuck = True
        raise GenerationError(
            f"waited {_ITEM_DEADLINE_S:g} s for one of {workers} processes to finish a game; the machine is overloaded"
        ) from error
    finally:
        # Wait for what has begun, or it would go on writing into a folder that the caller takes away.
        pool.shutdown(wait=not stuck, cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends: a pool's processes would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a child only

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
