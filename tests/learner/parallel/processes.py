"""Two real processes joined by gloo, which run functions of a test module one after another."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from learner.parallel.process_group import MeetingPoint, ProcessGroup

DEADLINE_S = 100.0

_joined: list[ProcessGroup] = []


class Pair:
    """Ranks 0 and 1 of one group, each a process with one thread of torch."""

    def __init__(self, ranks: list[ProcessPoolExecutor]) -> None:
        self._ranks = ranks

    def run(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Results of `work(group, *arguments)` by rank; the first failure is raised."""
        return [future.result(DEADLINE_S) for future in self.start(work, *arguments)]

    def start(self, work: Callable[..., Any], *arguments: Any) -> list[Future[Any]]:
        """The same, without waiting."""
        return [rank.submit(partial(_call, work), *arguments) for rank in self._ranks]


@contextmanager
def pair_of_processes(deadline_s: float = DEADLINE_S) -> Iterator[Pair]:
    """Start, let them meet, and end them."""
    context = multiprocessing.get_context("spawn")
    point = MeetingPoint("127.0.0.1", deadline_s)
    ranks = [
        ProcessPoolExecutor(1, context, initializer=_join, initargs=(point.address, rank, deadline_s))
        for rank in (0, 1)
    ]
    try:
        yield Pair(ranks)
    finally:
        for rank in ranks:
            rank.shutdown(cancel_futures=True)


def _join(address: tuple[str, int], rank: int, deadline_s: float) -> None:
    torch.set_num_threads(1)
    device = torch.device("cpu")
    _joined.append(ProcessGroup.join(address, rank, 2, device=device, deadline_s=deadline_s))


def _call(work: Callable[..., Any], *arguments: Any) -> Any:
    return work(_joined[0], *arguments)
