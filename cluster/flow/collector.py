"""Keeps rollout workers busy with orders for chunks of rows, as far as the capacity rule allows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError

from actors.report import RolloutReport
from cluster.flow.capacity import Capacity
from cluster.runtime.waiting import get
from cluster.workers.pool import WorkerPool

ORDERS_PER_WORKER = 2
"""Chunks that a worker is to deliver next: while it hands one over, its environments already play for the other."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a worker delivered: rows by reference, numbers by value."""

    batch: ray.ObjectRef
    report: RolloutReport


@dataclass(frozen=True, slots=True)
class _Order:
    name: int
    share: int
    """Which content was ordered; the same again after a loss."""
    worker: int
    batch: ray.ObjectRef
    report: ray.ObjectRef


class ChunkCollector:
    """Orders chunks, takes them in, and replaces workers that die or outgrow their memory.

    Args:
        workers: The pool, started.
        capacity: What may begin; told of everything that happens to a chunk.
        chunk_rows: Rows of a chunk, or episodes where `share_of` says which.
        temperature: Sampling temperature.
        share_of: Makes the content of the n-th order: a number of steps, or reset seeds.
    """

    def __init__(
        self,
        workers: WorkerPool,
        capacity: Capacity,
        chunk_rows: int,
        temperature: float,
        share_of: Callable[[int], Any],
    ) -> None:
        self._workers = workers
        self._capacity = capacity
        self._chunk_rows = chunk_rows
        self._temperature = temperature
        self._share_of = share_of
        self._orders: dict[ray.ObjectRef, _Order] = {}
        self._lost: list[int] = []
        """Shares of workers that died: their content is ordered again."""
        self._names = itertools.count()
        self._fresh_shares = itertools.count()
        self._coming_back: dict[ray.ObjectRef, int] = {}
        self._outgrown: set[int] = set()
        self._chunks: dict[int, Chunk] = {}

    def tend(self, timeout_s: float) -> None:
        """Take in what has arrived, waiting at most so long for the first arrival, and order what may begin.

        Raises:
            WorkerDied: A worker is gone for good.
            ConfigError: A worker is above the memory cap from the start.
            CroupierError: What a worker's rollout raised.
        """
        self._order()
        waited = [*self._orders, *self._coming_back]
        if not waited:
            return
        ready, _ = ray.wait(waited, num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready:  # whatever else has arrived by now comes along
            ready, _ = ray.wait(waited, num_returns=len(waited), timeout=0, fetch_local=False)
        for ref in ready:
            if ref in self._orders:
                self._take_in(self._orders.pop(ref))
            else:
                self._welcome(ref, self._coming_back.pop(ref))
        self._order()

    def take(self) -> list[Chunk] | None:
        """The chunks of the next update in order of arrival, or None while they are not all there."""
        names = self._capacity.take()
        return None if names is None else [self._chunks.pop(int(str(name))) for name in names]

    @property
    def under_way(self) -> str:
        """What is being waited for, in words."""
        return f"{len(self._orders)} chunk(s) under way, {len(self._coming_back)} worker(s) being rebuilt"

    def _order(self) -> None:
        while self._capacity.room_rows >= self._chunk_rows:
            loads = self._loads()
            if not loads or min(loads.values()) >= ORDERS_PER_WORKER:
                return
            worker = min(loads, key=loads.__getitem__)
            share = self._lost.pop(0) if self._lost else next(self._fresh_shares)
            name = next(self._names)
            self._capacity.begin(name, self._chunk_rows)
            refs = self._workers.order(worker, self._share_of(share), self._capacity.version, self._temperature)
            order = _Order(name, share, worker, *refs)
            self._orders[order.report] = order

    def _loads(self) -> dict[int, int]:
        """Open orders of every worker that may be given more."""
        away = {*self._coming_back.values(), *self._outgrown}
        loads = {index: 0 for index in range(len(self._workers.handles)) if index not in away}
        for order in self._orders.values():
            if order.worker in loads:
                loads[order.worker] += 1
        return loads

    def _take_in(self, order: _Order) -> None:
        try:
            report: RolloutReport = get(order.report, f"the report of worker-{order.worker}")
        except RayActorError as error:
            self._lose(order)
            self._outgrown.discard(order.worker)  # its successor begins small
            if order.worker not in self._coming_back.values():
                self._coming_back[self._workers.replace(order.worker, error)] = order.worker
            return
        self._chunks[order.name] = Chunk(order.batch, report)
        self._capacity.arrive(order.name)
        if self._workers.outgrown(order.worker, report):
            self._outgrown.add(order.worker)
        if order.worker in self._outgrown and all(other.worker != order.worker for other in self._orders.values()):
            self._outgrown.discard(order.worker)
            self._coming_back[self._restart(order.worker)] = order.worker

    def _restart(self, worker: int) -> ray.ObjectRef:
        try:
            return self._workers.restart(worker)
        except RayActorError as error:  # it died before it had told its state
            return self._workers.replace(worker, error)

    def _lose(self, order: _Order) -> None:
        self._lost.append(order.share)
        self._capacity.lose(order.name)
        self._workers.lost_rollouts += 1

    def _welcome(self, ref: ray.ObjectRef, worker: int) -> None:
        """A worker is back, or a call to it found it still away."""
        try:
            answer = get(ref, f"worker-{worker} to come back")
        except ActorDiedError as error:
            self._workers.replace(worker, error)
        except RayActorError:
            self._coming_back[self._workers.handles[worker].ping.remote()] = worker
        else:
            if isinstance(answer, int):
                self._workers.check_fresh(worker, answer)
