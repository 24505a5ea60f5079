"""Groups whose members are threads of the test's process: what each rank does, without processes to start."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

DEADLINE_S = 60.0


class ThreadGroup:
    """One rank; its kin share `barrier` and `board`."""

    def __init__(self, rank: int, barrier: threading.Barrier, board: list[Any]) -> None:
        self.rank, self.size = rank, len(board)
        self.barrier, self._board = barrier, board
        self.collectives = 0

    def exchange(self, mine: Any) -> list[Any]:
        """What every rank brought, in the order of ranks."""
        self._board[self.rank] = mine
        self.barrier.wait(DEADLINE_S)
        found = list(self._board)
        self.barrier.wait(DEADLINE_S)
        self.collectives += 1
        return found

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        brought = self.exchange([t.detach().clone() for t in tensors])
        assert len({tuple(t.shape for t in one) for one in brought}) == 1, "the ranks' tensors differ in shape"
        for i, tensor in enumerate(tensors):
            tensor.detach().copy_(torch.stack([one[i] for one in brought]).sum(0))

    def require_equal(self, weights: Mapping[str, torch.Tensor]) -> None:
        first, *others = self.exchange({name: w.detach().clone() for name, w in weights.items()})
        for other in others:
            assert all(torch.equal(w, other[name]) for name, w in first.items())


def members(size: int) -> list[ThreadGroup]:
    """The ranks of a fresh group."""
    barrier, board = threading.Barrier(size), [None] * size
    return [ThreadGroup(rank, barrier, board) for rank in range(size)]


def together(groups: Sequence[ThreadGroup], work: Callable[[ThreadGroup], Any]) -> list[Any]:
    """Results of `work(group)` by rank, each in a thread of its own; the first failure is raised."""
    results: list[Any] = [None] * len(groups)
    failures: list[BaseException] = []

    def run(group: ThreadGroup) -> None:
        try:
            results[group.rank] = work(group)
        except BaseException as error:
            failures.append(error)
            group.barrier.abort()

    threads = [threading.Thread(target=run, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    if failures:
        raise next((f for f in failures if not isinstance(f, threading.BrokenBarrierError)), failures[0])
    return results
