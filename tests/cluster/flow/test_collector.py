"""Chunks from real workers under the capacity rule: nothing is lost with a worker, nothing twice; real Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import ray

from actors.report import RolloutReport
from cluster.flow.capacity import Capacity
from cluster.flow.collector import Chunk, ChunkCollector
from cluster.runtime.waiting import get
from cluster.workers.actor import WorkerSpec
from cluster.workers.memory import MB
from cluster.workers.pool import WorkerPool
from protocol.codec import decode_steps
from protocol.errors import WorkerDied
from protocol.trajectory import Step
from tests.cluster.leaking import LEAK_BYTES
from tests.cluster.pools import pool_of

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]

BATCH, CHUNK = 40, 20
Spec = Callable[..., WorkerSpec]


def collector_of(pool: WorkerPool, staleness: int, updates: int | None = None, chunk: int = CHUNK) -> Any:
    capacity = Capacity(BATCH, staleness, updates=updates)
    return capacity, ChunkCollector(pool, capacity, chunk, 1.0, lambda number: chunk)


def next_batch(collector: ChunkCollector, deadline_s: float = 100.0) -> list[Chunk]:
    end = time.monotonic() + deadline_s
    while (chunks := collector.take()) is None:
        collector.tend(0.1)
        assert time.monotonic() < end, collector.under_way
    return chunks


def rows_of(chunks: list[Chunk]) -> list[Step]:
    return [row for batch in ray.get([chunk.batch for chunk in chunks]) for row in decode_steps(batch.steps)]


def process_id(pool: WorkerPool, index: int) -> int:
    return get(pool.handles[index].__ray_call__.remote(lambda _: os.getpid()), "a process id")


def kill(pool: WorkerPool, index: int) -> None:
    os.kill(process_id(pool, index), signal.SIGKILL)


def test_workers_run_ahead_as_far_as_they_may_and_name_new_versions_at_once(spec: Spec) -> None:
    with pool_of(spec(), count=2) as pool:
        capacity, collector = collector_of(pool, staleness=1, updates=4)
        batches = []
        for update in range(4):
            batches.append(rows_of(next_batch(collector)))
            ages = [update - row.policy_version for row in batches[-1]]
            assert len(ages) == BATCH and 0 <= min(ages) <= max(ages) <= 1
            # Nothing may begin until the next version is everywhere: the room of two batches is used up.
            while capacity.running_rows:
                collector.tend(0.1)
            assert capacity.waiting_rows == (BATCH if update < 3 else 0) and capacity.room_rows == 0
            pool.advance_to(update + 1)
            capacity.acknowledge(update + 1)
            collector.tend(0.0)
        assert collector.take() is None and capacity.waiting_rows == 0
    rows = [row for batch in batches for row in batch]
    places = [(row.episode_id, row.step) for row in rows]
    assert len(set(places)) == len(places) == 4 * BATCH
    assert {row.worker_id for row in rows} == {"worker-0", "worker-1"}


def test_what_a_worker_had_begun_is_collected_again_under_another_name(spec: Spec) -> None:
    with pool_of(spec(), count=2, max_restarts=1) as pool:
        _, collector = collector_of(pool, staleness=1, updates=2)
        process = process_id(pool, 0)
        collector.tend(0.0)
        os.kill(process, signal.SIGKILL)
        rows = rows_of(next_batch(collector)) + rows_of(next_batch(collector))
        assert pool.lost_rollouts >= 1
    places = [(row.episode_id, row.step) for row in rows]
    assert len(set(places)) == len(places) == 2 * BATCH


def test_the_other_workers_go_on_while_one_is_rebuilt(spec: Spec) -> None:
    with pool_of(spec(), count=2, max_restarts=1) as pool:
        _, collector = collector_of(pool, staleness=1, updates=3)
        kill(pool, 1)
        names = {row.worker_id for row in rows_of(next_batch(collector))}
        assert "worker-1" not in names


def test_a_restart_budget_is_spent_once(spec: Spec) -> None:
    with pool_of(spec(), count=1, max_restarts=0) as pool:
        _, collector = collector_of(pool, staleness=1)
        kill(pool, 0)
        with pytest.raises(WorkerDied, match="worker-0 died more than 0 time"):
            next_batch(collector)


def test_a_worker_that_outgrows_its_memory_is_started_anew_between_two_chunks(spec: Spec) -> None:
    with pool_of(spec()) as pool:
        fresh_mb = get(pool.handles[0].memory_bytes.remote(), "its memory") // MB
    limit_mb = fresh_mb + 3 * CHUNK * LEAK_BYTES // MB
    with pool_of(spec(), limit_mb) as pool:
        capacity, collector = collector_of(pool, staleness=1)
        rows = []
        for update in range(6):
            rows += rows_of(next_batch(collector))
            capacity.acknowledge(update + 1)
        assert 1 <= pool.recycled <= 4 and pool.lost_rollouts == 0
    places = [(row.episode_id, row.step) for row in rows]
    assert len(set(places)) == len(places) == 6 * BATCH


def test_a_worker_that_dies_when_it_is_to_be_started_anew_comes_back(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pool_of(spec(), count=1, max_restarts=1) as pool:
        process = process_id(pool, 0)
        reports = []

        def outgrown(index: int, report: RolloutReport) -> bool:
            """The first report is too large, and the process gone before it can hand over."""
            reports.append(report)
            if len(reports) == 1:
                os.kill(process, signal.SIGKILL)
            return len(reports) == 1

        monkeypatch.setattr(pool, "outgrown", outgrown)
        capacity, collector = collector_of(pool, staleness=1)
        batches = [next_batch(collector)]
        capacity.acknowledge(1)
        batches.append(next_batch(collector))
    rows = [row for batch in batches for row in rows_of(batch)]
    assert len({(row.episode_id, row.step) for row in rows}) == len(rows) == 2 * BATCH


def test_whole_episodes_come_with_the_seeds_of_their_chunk(spec: Spec) -> None:
    with pool_of(spec(), count=2) as pool:
        capacity = Capacity(8, 1, updates=2)
        collector = ChunkCollector(pool, capacity, 4, 1.0, lambda number: [number] * 4)
        batches = [next_batch(collector)]
        capacity.acknowledge(1)
        batches.append(next_batch(collector))
    seen: dict[int, set[str]] = {}
    for chunk in (chunk for batch in batches for chunk in batch):
        rows = rows_of([chunk])
        (seed,) = {row.reset_seed for row in rows}
        seen.setdefault(seed, set()).update(row.episode_id for row in rows)
    assert {seed: len(episodes) for seed, episodes in seen.items()} == {0: 4, 1: 4, 2: 4, 3: 4}
