"""Processes die, the rollout goes on: a killed worker's share is collected again, a killed engine is brought back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.vocabulary import banned_token_ids
from cluster.config import RayConfig, ServersConfig, WorkersConfig
from cluster.config.env import EnvConfig
from cluster.learners.actor import spawn_learner
from cluster.runtime.processes import ask_learner
from cluster.runtime.ray_session import ray_session
from cluster.runtime.waiting import StopFlag, get
from cluster.servers.pool import ServerPool
from cluster.stages.model import corpus_of, make_canaries
from cluster.workers.actor import WorkerSpec
from cluster.workers.pool import WorkerPool
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from protocol.adapter import Acknowledgement, AdapterPackage
from protocol.codec import TrajectoryBatch
from protocol.errors import LearnerDied, ServerDied, WorkerDied

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]

ENV = EnvConfig()


@dataclass
class Parts:
    """A model that was never trained, its servers and its workers: enough to collect."""

    servers: ServerPool
    workers: WorkerPool

    def collect(self, steps: int) -> list[TrajectoryBatch]:
        rollout = self.workers.collect(steps, 0, 1.0, deadline_s=200, meanwhile=self.servers.supervise)
        return ray.get(rollout.batches)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "model"
    return build_tiny_vlm(TinyVLMConfig(), TinyCorpus(*corpus_of(ENV, 0)), 0, folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(address="local"), logical_cpus=4):
        yield


@pytest.fixture(scope="module")
def parts(model: Path, cluster: None) -> Iterator[Parts]:
    """Real vLLM behind a server that may be restarted often."""
    started = start(model, ServersConfig(max_restarts=9), WorkersConfig(count=2, max_restarts=9))
    yield started
    started.servers.stop()
    started.workers.stop()


@pytest.fixture
def fragile(model: Path, cluster: None) -> Iterator[Parts]:
    """Processes that may not be restarted at all; the engine is transformers, which starts faster."""
    config = ServersConfig(kind="transformers", max_restarts=0)
    started = start(model, config, WorkersConfig(count=2, max_restarts=0))
    yield started
    started.servers.stop()
    started.workers.stop()


def start(model: Path, servers_config: ServersConfig, workers_config: WorkersConfig) -> Parts:
    stop = StopFlag()
    servers = ServerPool(str(model), servers_config, None, stop)
    spec = WorkerSpec("faults", str(model), ENV, {(300, 300): 9}, 8, 20, 0, False, 120.0)
    workers = WorkerPool(spec, workers_config, servers.names, None, stop)
    servers.wait_started()
    workers.wait_started(60)
    publish(servers, package_of(model, version=0))
    return Parts(servers, workers)


def publish(servers: ServerPool, package: AdapterPackage) -> Acknowledgement:
    (ack,) = servers.publish(package.manifest, ray.put(package))
    return ack


def package_of(model: Path, version: int) -> AdapterPackage:
    """An untrained adapter under a version of choice."""
    learner = Learner(model, LearnerConfig(), banned_token_ids(model), seed=version)
    package = learner.package(make_canaries(ENV, str(model), 0))
    return replace(package, manifest=replace(package.manifest, policy_version=version))


def process_id(handle: Any) -> int:
    return get(handle.__ray_call__.remote(lambda actor: os.getpid()), "a process id")


def kill_soon(pid: int, after_s: float) -> threading.Timer:
    timer = threading.Timer(after_s, os.kill, (pid, signal.SIGKILL))
    timer.start()
    return timer


def rows_of(batches: list[TrajectoryBatch]) -> int:
    return sum(b.steps.num_rows for b in batches)


def ids_of(batches: list[TrajectoryBatch]) -> list[str]:
    return [i for b in batches for i in set(b.steps.column("trajectory_id").to_pylist())]


def engine_of(parts: Parts) -> int:
    return get(parts.servers.handles[0].status.remote(), "status")["process_ids"][0]


def test_a_killed_worker_is_replaced_and_no_step_is_missing(parts: Parts) -> None:
    lost, before = parts.workers.lost_rollouts, parts.collect(64)
    kill_soon(process_id(parts.workers.handles[0]), after_s=0.5)
    after = parts.collect(400)
    assert rows_of(after) == 400
    assert parts.workers.lost_rollouts == lost + 1
    ids = ids_of(before) + ids_of(after)
    assert len(set(ids)) == len(ids), "a successor must not reuse the names of its predecessor"


def test_an_evaluation_survives_a_killed_worker(parts: Parts) -> None:
    kill_soon(process_id(parts.workers.handles[1]), after_s=0.3)
    seeds = list(range(100, 160))
    results = parts.workers.run_episodes(seeds, 0, 1.0, 200, parts.servers.supervise)
    assert [r.seed for r in results] == seeds


def test_a_killed_engine_comes_back_in_sync(parts: Parts) -> None:
    restarts = parts.servers.restarts
    kill_soon(engine_of(parts), after_s=0.5)
    batches = parts.collect(400)
    assert rows_of(batches) == 400
    assert parts.servers.restarts == restarts + 1
    digests = {d for b in batches for d in b.steps.column("adapter_digest").to_pylist()}
    assert len(digests) == 1, "before and after the restart the same adapter answered"


def test_a_server_that_died_before_a_publish_acknowledges_it_after_its_restart(parts: Parts, model: Path) -> None:
    package = package_of(model, version=1)
    restarts = parts.servers.restarts
    look_after(parts.servers)
    kill_soon(engine_of(parts), after_s=0.0).join()
    ack = publish(parts.servers, package)
    assert ack.policy_version == 1
    assert ack.max_abs_error < 1e-3
    assert get(parts.servers.handles[0].status.remote(), "status")["live_versions"] == [0, 1]
    for _ in range(3):
        look_after(parts.servers)
    assert parts.servers.restarts == restarts + 1, "one death, noticed by the publish and by supervision"


def look_after(servers: ServerPool) -> None:
    """Supervises at once, and waits for what it has asked."""
    servers._looked_at = float("-inf")
    servers.supervise()
    ray.wait(list(servers._repairs.values()), num_returns=len(servers._repairs), timeout=60)


def test_a_server_beyond_its_restart_budget_ends_the_run_with_a_clear_error(fragile: Parts) -> None:
    kill_soon(process_id(fragile.servers.handles[0]), after_s=0.5)
    began = time.monotonic()
    with pytest.raises(ServerDied, match="server-0 died more than 0 time"):
        fragile.collect(4000)
    assert time.monotonic() - began < 100


def test_a_worker_beyond_its_restart_budget_ends_the_run_with_a_clear_error(fragile: Parts) -> None:
    kill_soon(process_id(fragile.workers.handles[0]), after_s=0.1)
    with pytest.raises(WorkerDied, match="worker-0 died more than 0 time"):
        fragile.collect(4000)


def test_a_dead_learner_ends_the_run_with_a_clear_error(cluster: None) -> None:
    learner = spawn_learner(num_cpus=0)
    get(learner.progress.remote(), "the learner's process")
    kill_soon(process_id(learner), after_s=0.5)
    with pytest.raises(LearnerDied, match="(?s)while the run waited for a long update.*memory"):
        ask_learner(learner.__ray_call__.remote(lambda actor: time.sleep(60)), "a long update", deadline_s=50)
