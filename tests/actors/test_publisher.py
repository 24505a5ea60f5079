"""Servers of one node publish from the same files, and each proves them on its own engine."""

import asyncio
from pathlib import Path

import pytest

from actors import adapter_files, adapter_folder
from actors.config import ServerConfig
from actors.policy_server import PolicyServer
from protocol.adapter import AdapterPackage
from protocol.errors import AdapterRejected, UnknownPolicyVersion
from tests.actors.fake_engine import BASE_SCORE, FakeEngine, fake_package
from tests.actors.toy_folder import toy_request, write_toy_folder


class Node:
    """Servers with fake engines that share a place for adapters."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "shm"
        self.root.mkdir()
        self._model = write_toy_folder(folder / "model")
        self.servers: list[PolicyServer] = []
        self.engines: list[FakeEngine] = []
        self.writers: list[str] = []

    async def start(self) -> PolicyServer:
        engine = FakeEngine()
        config = ServerConfig(max_model_len=32, adapter_slots=2)
        name = f"server-{len(self.servers)}"
        server = PolicyServer(self._model, config, name, lambda _: engine, adapter_root=self.root)
        self.servers.append(server)
        self.engines.append(engine)
        await server.start()
        return server

    async def publish(self, package: AdapterPackage) -> None:
        await asyncio.gather(*(server.publish(package) for server in self.servers))

    def stored(self) -> list[str]:
        return sorted(path.name for path in self.root.glob("*/*/policy-*"))


@pytest.fixture
async def node(tmp_path, monkeypatch):
    node = Node(tmp_path)

    def write(home, package, server_id):
        node.writers.append(server_id)
        adapter_files.write_files(home, package, server_id)

    monkeypatch.setattr(adapter_folder, "write_files", write)
    for _ in range(2):
        await node.start()
    yield node
    for server in node.servers:
        await server.stop()
    assert list(node.root.iterdir()) == []


async def test_two_servers_share_one_write_and_each_scores_its_canaries(node):
    scored: list[int] = []
    for number, engine in enumerate(node.engines):
        score = engine.score

        async def noted(*arguments, number=number, score=score):
            scored.append(number)
            return await score(*arguments)

        engine.score = noted
    await node.publish(fake_package(1, shift=0.5))
    assert len(node.writers) == 1 and node.stored() == ["policy-v1"]
    assert sorted(scored) == [0, 0, 1, 1], "the canary with the adapter and without"
    for server in node.servers:
        assert (await server.sample(toy_request(policy_version=1))).log_probs[0] == BASE_SCORE + 0.5


async def test_proven_files_are_no_proof_of_an_engine(node):
    one, two = node.servers
    await one.publish(fake_package(1))
    node.engines[1].ignores_adapters = True
    with pytest.raises(AdapterRejected, match="not in effect"):
        await two.publish(fake_package(1))
    assert node.stored() == ["policy-v1"], "the first one needs its files"
    with pytest.raises(UnknownPolicyVersion):
        await two.sample(toy_request(policy_version=1))


async def test_a_version_that_one_server_retires_stays_with_the_other(node):
    one, two = node.servers
    await node.publish(fake_package(1))
    await node.publish(fake_package(2))
    await one.retire(1)
    assert node.stored() == ["policy-v1", "policy-v2"]
    assert sorted(node.engines[0].loaded) == [2] and sorted(node.engines[1].loaded) == [1, 2]
    await two.retire(1)
    assert node.stored() == ["policy-v2"]


async def test_a_server_that_stops_leaves_the_other_s_files(node):
    await node.publish(fake_package(1))
    await node.servers[0].stop()
    assert node.stored() == ["policy-v1"]


async def test_a_server_that_comes_back_syncs_from_the_files_that_are_there(node):
    for version in (1, 2):
        await node.publish(fake_package(version))
    writers = list(node.writers)
    back = await node.start()
    for version in (1, 2):
        await back.publish(fake_package(version))
    assert node.writers == writers, "and writes none"
    assert sorted(node.engines[2].loaded) == [1, 2]


async def test_a_full_server_keeps_its_versions_when_the_new_bytes_are_damaged(node):
    for version in (1, 2):
        await node.publish(fake_package(version))
    bad = fake_package(3)
    object.__setattr__(bad, "config", bad.config + b" ")
    with pytest.raises(AdapterRejected, match="do not have the digest"):
        await node.servers[0].publish(bad)
    assert (await node.servers[0].status())["live_versions"] == [1, 2]
    assert node.stored() == ["policy-v1", "policy-v2"]


async def test_files_go_when_the_slots_cannot_take_them(node, monkeypatch):
    await node.servers[0].publish(fake_package(1))

    def refuse(handle):
        raise AdapterRejected("no slot")

    monkeypatch.setattr(node.servers[0]._slots, "add", refuse)
    with pytest.raises(AdapterRejected, match="no slot"):
        await node.servers[0].publish(fake_package(2))
    assert node.stored() == ["policy-v1"]
