"""Engines and learner that take turns, with real processes: the same run as without, and deaths in the other's turn.

There is no GPU here. Ray is told of one, so that the configuration passes; behind it the engine is transformers, whose
model has nowhere to go on a CPU, and the learner really copies everything it holds out and in.
"""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError
from rich.console import Console

from actors.vocabulary import banned_token_ids
from cluster.config import RunConfig, default_config
from cluster.config.env import EnvConfig
from cluster.record.journal import Journal
from cluster.record.progress import RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.waiting import StopFlag, get
from cluster.servers.pool import ServerPool
from cluster.session import open_session
from cluster.stages.model import corpus_of, make_canaries
from cluster.stages.runner import StageRunner
from learner.config import LearnerConfig
from learner.learner import Learner
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from protocol.adapter import AdapterPackage
from protocol.errors import RequestRefused, ServerDied

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(400)]

ENV = EnvConfig()
UPDATES = 2
OVERRIDES = [
    "sft=null",
    f"rollout.updates={UPDATES}",
    "rollout.steps_per_update=32",
    "rollout.max_tokens=8",
    "workers.count=1",
    "workers.envs_per_worker=8",
    "servers.kind=transformers",
    "servers.gpus=0.5",
    "learner.gpus=0.5",
    "evaluation.episodes=4",
    "checkpoints.every_updates=1",
    "checkpoints.keep=9",
    "tracking.tensorboard=false",
]


@pytest.fixture(scope="module")
def gpu() -> Iterator[None]:
    """Ray with a GPU that is not there."""
    ray.init(address="local", num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alternation") / "model"
    return build_tiny_vlm(TinyVLMConfig(), TinyCorpus(*corpus_of(ENV, 0)), 0, folder)


def config_of(model: Path, folder: Path, *more: str) -> RunConfig:
    config = default_config([*OVERRIDES, f"model.path={model}", f"runs_dir={folder}", *more])
    # Bit-equal draws, which the configuration keeps for CPU: there is nothing else behind this GPU.
    return config.model_copy(update={"deterministic": True})


def run(config: RunConfig) -> RunDir:
    made = RunDir.create(config.runs_dir, config.name)
    with open_session(config, made, RunProgress(Console(file=io.StringIO())), StopFlag()) as session:
        StageRunner(session, Journal(config, made)).execute()
    return made


def files_of(made: RunDir) -> dict[str, bytes]:
    kept = sorted(path for path in made.checkpoints.rglob("*.safetensors"))
    return {str(path.relative_to(made.checkpoints)): path.read_bytes() for path in kept}


def test_a_run_that_alternates_ends_with_the_bytes_of_one_that_does_not(gpu, model, tmp_path):
    plain = run(config_of(model, tmp_path, "name=plain"))
    taking_turns = run(config_of(model, tmp_path, "name=turns", "servers.sleep_while_learning=true"))
    expected = files_of(plain)
    assert len(expected) >= 3 * (UPDATES + 1), "adapter, value head and optimizer of every checkpoint"
    assert files_of(taking_turns) == expected
    rows = [json.loads(line) for line in taking_turns.metrics.read_text().splitlines()]
    assert len(rows) == UPDATES and all(row["time/turns_s"] > 0 for row in rows)
    assert "time/turns_s" not in json.loads(plain.metrics.read_text().splitlines()[0])
    results = [json.loads(made.card.read_text())["results"] for made in (plain, taking_turns)]
    assert [r["after_greedy"]["mean_return"] for r in results] == [results[0]["after_greedy"]["mean_return"]] * 2


@pytest.fixture
def pool(gpu: None, model: Path) -> Iterator[ServerPool]:
    """Two servers that may be restarted, with policy 0 in service."""
    config = default_config([*OVERRIDES, "servers.count=2", "servers.gpus=0", "servers.max_restarts=3"]).engine
    servers = ServerPool(str(model), config, None, StopFlag())
    servers.wait_started()
    package = package_of(model)
    servers.publish(package.manifest, ray.put(package))
    yield servers
    servers.stop()


def package_of(model: Path) -> AdapterPackage:
    learner = Learner(model, LearnerConfig(), banned_token_ids(model), seed=0)
    package = learner.package(make_canaries(ENV, str(model), 0))
    return replace(package, manifest=replace(package.manifest, policy_version=0))


def status(pool: ServerPool, index: int) -> dict[str, Any]:
    return get(pool.handles[index].status.remote(), "status")


def strike(pool: ServerPool, index: int) -> None:
    """End a server's process."""
    server: Any = pool.handles[index]
    os.kill(get(server.__ray_call__.remote(lambda actor: os.getpid()), "a process id"), signal.SIGKILL)


def kill(pool: ServerPool, index: int) -> None:
    """End a server's process, and wait until Ray has made a new one."""
    strike(pool, index)
    deadline = time.monotonic() + 60
    while True:
        try:
            if not status(pool, index)["started"]:
                return
        except RayActorError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def look_after(pool: ServerPool, seconds: float) -> None:
    """What the driver does while the learner works."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pool.supervise()
        time.sleep(0.1)


def test_a_server_that_dies_in_the_learners_turn_comes_back_with_the_engines(pool):
    pool.sleep()
    assert [status(pool, index)["asleep"] for index in (0, 1)] == [True, True]
    kill(pool, 0)
    look_after(pool, 6.0)  # three looks of the one who would start it again
    assert not status(pool, 0)["started"], "it took memory that is the learner's"
    with pytest.raises(RequestRefused, match="learner's turn"):
        get(pool.handles[1].score.remote([8], [], [9]), "a score")
    with pytest.raises(ServerDied, match="not in sync"):
        get(pool.handles[0].score.remote([8], [], [9]), "a score")
    pool.sleep()
    pool.wake()
    assert [status(pool, index)["live_versions"] for index in (0, 1)] == [[0], [0]]
    assert not any(status(pool, index)["asleep"] for index in (0, 1))
    assert pool.restarts == 1
    look_after(pool, 5.0)
    assert pool.restarts == 1, "counted once"


def test_a_server_that_dies_on_its_way_to_sleep_is_waited_for_and_stays_down(pool):
    strike(pool, 0)
    pool.sleep()
    assert not status(pool, 0)["started"] and status(pool, 1)["asleep"]
    look_after(pool, 5.0)
    assert not status(pool, 0)["started"]
    pool.wake()
    assert status(pool, 0)["live_versions"] == [0]
    pool.sleep()
    pool.wake()
    assert pool.restarts == 1
