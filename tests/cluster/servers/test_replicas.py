"""Several servers, one policy: a version that one of them lacks is current nowhere, and none comes back without it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from actors.config import ServerConfig
from actors.engine import AdapterHandle
from actors.policy_server import PolicyServer
from actors.sampler import Sample
from cluster.config import RayConfig, RunConfig, ServersConfig
from cluster.config.env import EnvConfig
from cluster.driver import Driver
from cluster.flow.capacity import Capacity
from cluster.flow.pipeline import Pipeline
from cluster.runtime.ray_session import ray_session
from cluster.runtime.waiting import StopFlag, get
from cluster.servers import actor as server_actor
from cluster.servers.actor import ServerActor
from cluster.servers.pool import ServerPool
from cluster.servers.ray_sampler import RaySampler
from cluster.stages.model import corpus_of
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from protocol.adapter import AdapterManifest, AdapterPackage
from protocol.errors import AdapterRejected, DeadlineExceeded
from tests.actors.fake_engine import FakeEngine, fake_package
from tests.actors.tiny_policies import Oracle, request
from tests.actors.toy_folder import write_toy_folder


class SlowEngine(FakeEngine):
    """Starts only when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_start = asyncio.Event()

    async def start(self) -> None:
        await self.may_start.wait()


@dataclass
class Restarted:
    """A server actor whose process has just been replaced: it holds nothing yet."""

    actor: ServerActor
    engines: list[SlowEngine]

    async def live(self) -> list[int]:
        return (await self.actor.status())["live_versions"]


@pytest.fixture
async def restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Restarted:
    engines: list[SlowEngine] = []

    def build(model: str, config: ServerConfig, server_id: str, on_death: Any = None) -> PolicyServer:
        def make(vocabulary: Any) -> SlowEngine:
            engines.append(SlowEngine())
            return engines[-1]

        return PolicyServer(model, config, server_id, make, on_death, tmp_path)

    monkeypatch.setattr(server_actor, "build_server", build)
    config = ServersConfig(max_model_len=32)
    return Restarted(ServerActor(str(write_toy_folder(tmp_path / "model")), config, "server-0"), engines)


async def arriving(package: AdapterPackage, gate: asyncio.Event | None = None) -> AdapterPackage:
    """A package that is still on its way from the object store."""
    if gate is not None:
        await gate.wait()
    return package


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_server_that_is_brought_back_twice_at_once_has_one_engine(restarted):
    # By the one who looks after the servers, and by the one who waits for its acknowledgement.
    both = [asyncio.create_task(restarted.actor.resync([arriving(fake_package(0))])) for _ in range(2)]
    await turns()
    for engine in restarted.engines:
        engine.may_start.set()
    await asyncio.gather(*both)
    assert len(restarted.engines) == 1
    assert await restarted.live() == [0]
    await restarted.actor.stop()


async def test_a_version_that_is_published_meanwhile_comes_after_those_of_before(restarted):
    gate = asyncio.Event()
    back = asyncio.create_task(restarted.actor.resync([arriving(fake_package(0)), arriving(fake_package(1), gate)]))
    await turns()
    restarted.engines[0].may_start.set()
    while (await restarted.actor.status()).get("live_versions") != [0]:
        await asyncio.sleep(0.01)
    publish = asyncio.create_task(restarted.actor.publish(fake_package(2)))
    retire = asyncio.create_task(restarted.actor.retire(1))
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(back, publish, retire)
    assert await restarted.live() == [0, 2]
    await restarted.actor.stop()


def on_ray(test: Callable) -> Callable:
    for mark in (pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)):
        test = mark(test)
    return test


class Exporter:
    """The learner of these tests: exports what it was given."""

    def give(self, package: AdapterPackage) -> None:
        self._package = package

    def package(self, canaries: Sequence[Any]) -> tuple[AdapterManifest, AdapterPackage]:
        return self._package.manifest, self._package


class Workers:
    """Notes the versions that workers were told to name."""

    def __init__(self) -> None:
        self.versions: list[int] = []

    def advance_to(self, version: int) -> None:
        self.versions.append(version)


class Pair:
    """Two real servers, and what a driver needs to publish to them. Every version is another adapter."""

    def __init__(self, folder: Path) -> None:
        config = ServersConfig(
            kind="transformers", count=2, max_restarts=9, max_model_len=128, adapter_slots=4, publish_timeout_s=6.0
        )
        self.servers = ServerPool(str(folder), config, None, StopFlag())
        self._learner = ray.remote(Exporter).options(num_cpus=0).remote()
        self._oracle = Oracle(folder)
        self._digests: dict[int, bytes] = {}
        self.servers.wait_started()

    def driver(self, kind: type[Driver] = Driver) -> tuple[Any, Workers]:
        nothing: Any = None
        workers: Any = Workers()
        return kind(RunConfig(), nothing, self._learner, self.servers, workers, (), StopFlag()), workers

    def export(self) -> int:
        """Has the learner export its next version."""
        version = len(self._digests)
        package = self._oracle.package(version, seed=version + 1)
        get(self._learner.give.remote(package), "the package")
        self._digests[version] = package.manifest.digest
        return version

    def status(self, index: int) -> dict[str, Any]:
        return get(self.servers.handles[index].status.remote(), "status")

    def do(self, index: int, what: Callable[[Any], Any]) -> Any:
        server: Any = self.servers.handles[index]
        return get(server.__ray_call__.remote(what), "the server to do it")

    def check_samples(self, version: int) -> None:
        """Samples by both servers, all of them by the adapter of this version."""
        vocabulary = self._oracle.vocabulary
        asked = [request(vocabulary, image_seed, version) for image_seed in range(16)]
        before = [self.status(index)["samples"] for index in (0, 1)]

        async def ask() -> list[Sample]:
            sampler = RaySampler(self.servers.handles, 60.0)
            return await asyncio.gather(*map(sampler.sample, asked))

        samples = asyncio.run(ask())
        assert all(self.status(index)["samples"] > before[index] for index in (0, 1))
        assert {sample.policy_version for sample in samples} == {version}
        assert {sample.adapter_digest for sample in samples} == {self._digests[version]}
        for one, sample in zip(asked, samples, strict=True):
            expected = self._oracle.sampled_log_probs(one, sample.token_ids, version + 1)
            np.testing.assert_allclose(sample.log_probs, expected, atol=1e-3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("replicas") / "model"
    build_tiny_vlm(TinyVLMConfig(), TinyCorpus(*corpus_of(EnvConfig(), 0)), 0, folder)
    with ray_session(RayConfig(address="local"), logical_cpus=4):
        pair = Pair(folder)
        yield pair
        pair.servers.stop()


def stay_behind(actor: Any) -> None:
    """From now on the engine takes the current adapter for every new one, and says nothing."""
    slots, engine = actor._server._slots, actor._server._running.host.engine
    load = engine.load_adapter

    async def load_current(adapter: AdapterHandle) -> None:
        with slots.lease(slots.current) as current:
            await load(replace(adapter, path=current.path))

    engine.load_adapter = load_current


def hang(actor: Any) -> None:
    """From now on the engine never finishes loading."""

    async def load_never(adapter: AdapterHandle) -> None:
        await asyncio.Event().wait()

    actor._server._running.host.engine.load_adapter = load_never


def heal(actor: Any) -> None:
    del actor._server._running.host.engine.load_adapter


def publish_in_lock_step(driver: Any) -> None:
    driver.publish()


def publish_behind_its_back(driver: Any) -> None:
    driver._capacity = Capacity(batch_rows=1, max_staleness=1, version=driver.policy_version)
    driver._begin_publication()
    driver.settle()


@on_ray
@pytest.mark.parametrize(
    ("kind", "publish", "fault", "error", "complaint"),
    [
        (Driver, publish_in_lock_step, stay_behind, AdapterRejected, "nats from the learner's log-probs"),
        (Pipeline, publish_behind_its_back, stay_behind, AdapterRejected, "nats from the learner's log-probs"),
        (Driver, publish_in_lock_step, hang, DeadlineExceeded, "to load and answer its canaries"),
    ],
)
def test_a_version_that_one_of_two_servers_lacks_is_not_current(pair, kind, publish, fault, error, complaint):
    driver, workers = pair.driver(kind)
    proven = pair.export()
    driver.publish()
    missed = pair.export()
    pair.do(1, fault)
    with pytest.raises(error, match=complaint):
        publish(driver)
    pair.do(1, heal)
    newest = [pair.status(index)["policy_version"] for index in (0, 1)]
    assert newest == [missed, proven], "whoever asks each server for its newest version samples two policies"
    assert driver.policy_version == proven and workers.versions == []
    pair.check_samples(driver.policy_version)


@on_ray
def test_a_server_that_comes_back_brings_no_rejected_version_and_does_not_miss_the_next(pair):
    driver, _ = pair.driver()
    proven = pair.export()
    driver.publish()
    pair.export()
    pair.do(1, stay_behind)
    with pytest.raises(AdapterRejected):
        driver.publish()
    pair.do(1, heal)

    restarts = pair.servers.restarts
    os.kill(pair.do(0, lambda actor: os.getpid()), signal.SIGKILL)
    deadline = time.monotonic() + 100
    while pair.servers.restarts == restarts:
        assert time.monotonic() < deadline, "nobody noticed that server-0 is gone"
        pair.servers.supervise()
        time.sleep(0.05)
    newer = pair.export()  # while server-0 is on its way back
    driver.publish()
    assert pair.status(0)["live_versions"] == [newer], "with it came the proven one, which is retired now"
    assert newer == proven + 2
    pair.check_samples(newer)
