"""Several learner actors as one: their results, and their end when one of them dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.config import RayConfig
from cluster.config.processes import LearnerPartConfig
from cluster.learners.group import LearnerGroup, SharedCall, learner_processes
from cluster.record.trajectory_files import read_steps
from cluster.runtime.processes import ask_learner
from cluster.runtime.ray_session import ray_session
from cluster.runtime.waiting import StopFlag, StopRequested, get
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from protocol.errors import LearnerDied, LearnerGroupBroken, TrajectoryError
from tests.cluster.test_faults import kill_soon, process_id
from tests.learner.tiny.number_line import corpus
from tests.learner.world import COMPUTE, World, config

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(240)]

CONFIG = LearnerPartConfig(count=2, compute=COMPUTE, collective_timeout_s=30.0)
OPTIONS = [{"num_cpus": 0}] * 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(build_tiny_vlm(TinyVLMConfig(), corpus(), 0, tmp_path_factory.mktemp("group") / "model"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(address="local"), logical_cpus=2):
        yield


@pytest.fixture
def group(cluster: None) -> Iterator[LearnerGroup]:
    with learner_processes(CONFIG, OPTIONS, 100.0) as started:
        yield started


def start(group: LearnerGroup, world: World, folder: Path) -> None:
    call = group.start.remote(str(world.folder), config(), world.banned, 0, str(folder))
    ask_learner(call, "the learners to start", 60)


def nap(actor: Any, seconds: float) -> None:
    time.sleep(seconds)


def fail(actor: Any) -> None:
    raise TrajectoryError("as wished")


def shared(group: LearnerGroup, *calls: Any) -> SharedCall:
    """One function per actor, as if it were one call."""
    refs = [actor.__ray_call__.remote(*call) for actor, call in zip(group.actors, calls, strict=True)]
    return SharedCall(group, tuple(refs))


def test_two_learners_make_one_update_and_write_its_files_once(group, world, tmp_path) -> None:
    start(group, world, tmp_path / "rows")
    made, package = group.package.options(num_returns=2).remote([])
    manifest = ask_learner(made, "an adapter", 60)
    assert get(package, "the package").manifest == manifest
    steps = [replace(s, adapter_digest=manifest.digest) for s in world.mixed_steps()]
    batches = [ray.put(world.batch(steps[:3])), ray.put(world.batch(steps[3:]))]
    metrics = ask_learner(group.update.remote(1, batches), "an update", 60)
    assert metrics["rows"] == 7
    assert metrics["ledger_trained"] == metrics["ledger_received"] == 3
    assert read_steps(tmp_path / "rows").num_rows == 7
    digests = [get(actor.package.options(num_returns=2).remote([])[0], "a manifest").digest for actor in group.actors]
    assert digests[0] == digests[1] != manifest.digest
    ask_learner(group.save.remote(str(tmp_path / "saved"), []), "a checkpoint", 60)
    ask_learner(group.load.remote(str(tmp_path / "saved")), "a checkpoint", 60)
    # What is not for all is asked of rank 0.
    assert get(group.progress.remote(), "progress") == {}


def test_the_death_of_one_is_told_by_its_rank_and_ends_the_group(group, world, tmp_path) -> None:
    start(group, world, tmp_path / "rows")
    kill_soon(process_id(group.actors[1]), after_s=1.0)
    with pytest.raises(LearnerDied, match="process of learner 1 of 2 ended while the run waited for a long update"):
        ask_learner(shared(group, (nap, 3.0), (nap, 60.0)), "a long update", 50)
    began = time.monotonic()
    with pytest.raises(LearnerDied, match="learner 1 of 2"):
        group.save.remote(str(tmp_path / "saved"), [])
    assert time.monotonic() - began < 1


def test_a_death_in_the_middle_of_an_update_is_told_by_its_rank(group, world, tmp_path) -> None:
    start(group, world, tmp_path / "rows")
    manifest = ask_learner(group.package.options(num_returns=2).remote([])[0], "an adapter", 60)
    steps = [replace(s, adapter_digest=manifest.digest) for s in world.mixed_steps()]
    pid = process_id(group.actors[1])
    group.actors[1].__ray_call__.remote(nap, 20.0)  # rank 0 waits for it in its first collective
    call = group.update.remote(1, [ray.put(world.batch(steps))])
    kill_soon(pid, after_s=3.0)
    with pytest.raises(LearnerDied, match="process of learner 1 of 2"):
        ask_learner(call, "an update", 60)


def test_a_failure_of_one_alone_is_the_end_and_one_of_all_is_not(group) -> None:
    with pytest.raises(TrajectoryError, match="as wished"):
        ask_learner(shared(group, (fail,), (fail,)), "a failure", 50)
    ask_learner(shared(group, (nap, 0.0), (nap, 0.0)), "both", 50)
    stop = StopFlag()
    stop.set()
    with pytest.raises(StopRequested):
        ask_learner(shared(group, (nap, 1.0), (nap, 1.0)), "a stop", 50, stop=stop)
    ask_learner(shared(group, (nap, 0.0), (nap, 0.0)), "both after a stop", 50)
    with pytest.raises(
        LearnerGroupBroken, match="Learner 1 of 2 failed while the run waited for one of two: as wished"
    ):
        ask_learner(shared(group, (nap, 15.0), (fail,)), "one of two", 50)
    with pytest.raises(LearnerGroupBroken, match="Learner 1 of 2 failed"):
        group.update.remote(1, [])
