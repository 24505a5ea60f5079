"""Workers that outgrow their memory cap are started anew, and no row tells; real Ray, a scripted server."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import ray

from cluster.runtime.waiting import get
from cluster.workers.actor import WorkerSpec
from cluster.workers.memory import MB
from cluster.workers.pool import Rollout, WorkerPool
from protocol.codec import decode_steps
from protocol.errors import ConfigError, WorkerDied
from tests.actors.rollouts import contents
from tests.cluster.leaking import LEAK_BYTES
from tests.cluster.pools import pool_of

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]

STEPS = 50
ROLLOUT_LEAK_MB = STEPS * LEAK_BYTES // MB
PANEL = [2**30 + i for i in range(6)]


@pytest.fixture(scope="module")
def fresh_mb(spec: Callable[..., WorkerSpec]) -> int:
    """What a worker takes before its first step."""
    with pool_of(spec()) as pool:
        return get(pool.handles[0].memory_bytes.remote(), "its memory") // MB


def collect(pool: WorkerPool, version: int = 0) -> Rollout:
    return pool.collect(STEPS, version, 1.0, deadline_s=100)


def rows_of(rollout: Rollout) -> list[dict[str, Any]]:
    return [row for batch in ray.get(rollout.batches) for row in contents(decode_steps(batch.steps))]


def process_id(pool: WorkerPool) -> int:
    return get(pool.handles[0].__ray_call__.remote(lambda actor: os.getpid()), "a process id")


def play(pool: WorkerPool) -> tuple[list[Any], list[Any], list[int]]:
    """Four rollouts with an evaluation among them: rows and states, results, and the processes that did it."""
    seen, results, processes = [], [], []
    for version in range(4):
        processes.append(process_id(pool))
        rollout = collect(pool, version)
        # Batches are read only now, when a recycled worker is long gone, as the learner does.
        if version == 1:
            results = pool.run_episodes(PANEL, version, 0.0, deadline_s=100)
        seen.append((rows_of(rollout), rollout.states))
    return seen, results, processes


def test_recycling_after_every_rollout_changes_no_row(spec, fresh_mb: int, caplog: pytest.LogCaptureFixture) -> None:
    with pool_of(spec()) as pool:
        undisturbed, panel, processes = play(pool)
        assert pool.recycled == 0 and len(set(processes)) == 1
        grown_mb = collect(pool).reports[0].rss_bytes / MB
    assert grown_mb > fresh_mb + 4 * ROLLOUT_LEAK_MB

    with caplog.at_level(logging.WARNING), pool_of(spec(), fresh_mb + ROLLOUT_LEAK_MB // 2) as pool:
        rows, again, processes = play(pool)
        assert pool.recycled == 4 and len(set(processes)) == 4
        assert pool.lost_rollouts == 0
        assert collect(pool).reports[0].rss_bytes / MB < fresh_mb + 2 * ROLLOUT_LEAK_MB
    assert rows == undisturbed
    assert again == panel
    assert caplog.text.count("workers.max_memory_mb is") == 1
    # What was compared is worth it: episodes that several processes had a hand in.
    ids = [{row["episode_id"] for row in rows} for rows, _ in undisturbed]
    assert all(first & second for first, second in zip(ids, ids[1:], strict=False))


def test_a_cap_below_a_fresh_worker_is_refused_at_the_start(spec, fresh_mb: int) -> None:
    with (
        pytest.raises(ConfigError, match=rf"max_memory_mb is {fresh_mb // 2}, but worker-0 takes \d+ MB"),
        pool_of(spec(), fresh_mb // 2),
    ):
        pass


def test_an_environment_that_does_not_repeat_itself_begins_anew_under_another_name(spec, fresh_mb: int) -> None:
    with pool_of(spec("Forgetful"), fresh_mb + ROLLOUT_LEAK_MB // 2) as pool:
        first, second = rows_of(collect(pool)), rows_of(collect(pool))
    assert {row["worker_id"] for row in first} == {"worker-0"}
    (name,) = {row["worker_id"] for row in second}
    assert name.startswith("worker-0r")
    assert all(row["step"] == i for i, row in enumerate(r for r in second if r["episode_id"] == f"{name}-0-0"))


def test_recycling_gives_no_restart_back(spec, fresh_mb: int) -> None:
    with pool_of(spec(), fresh_mb + ROLLOUT_LEAK_MB // 2, max_restarts=1) as pool:
        os.kill(process_id(pool), signal.SIGKILL)
        collect(pool)
        assert (pool.lost_rollouts, pool.recycled) == (1, 1)
        os.kill(process_id(pool), signal.SIGKILL)
        with pytest.raises(WorkerDied, match="worker-0 died more than 1 time"):
            collect(pool)


def test_a_successor_of_a_crashed_worker_keeps_its_name_through_recycling_and_resume(spec, fresh_mb: int) -> None:
    with pool_of(spec(), fresh_mb + ROLLOUT_LEAK_MB // 2, max_restarts=1) as pool:
        os.kill(process_id(pool), signal.SIGKILL)
        rollout = collect(pool)
        names = {row["worker_id"] for row in rows_of(rollout)}
        expected = rows_of(collect(pool))
    assert names != {"worker-0"} and {row["worker_id"] for row in expected} == names
    with pool_of(spec()) as resumed:
        resumed.load_states(rollout.states, update=1)
        assert rows_of(collect(resumed)) == expected


def test_whole_episodes_are_shared_among_workers_and_keep_their_starts(spec) -> None:
    with pool_of(spec(), count=2) as pool:
        rows = rows_of(pool.collect_episodes([5, 5, 5, 9, 9, 9], 0, 1.0, deadline_s=100))
    starts = {row["episode_id"]: row["reset_seed"] for row in rows}
    assert sorted(starts.values()) == [5, 5, 5, 9, 9, 9]
    assert {row["worker_id"] for row in rows} == {"worker-0", "worker-1"}
    ends = {row["episode_id"]: row["end_reason"] for row in rows}
    assert "cut" not in {str(end) for end in ends.values()}
