"""Adapters without a model go through everything that a real one goes through."""

import pytest

from actors.adapter_checks import tensor_names
from actors.config import ServerConfig
from actors.policy_server import PolicyServer
from cluster.bench.publish_stub import StubEngine, stub_package, stub_tensors
from protocol.errors import RequestRefused
from tests.actors.toy_folder import toy_request, write_toy_folder


@pytest.mark.parametrize("nbytes", [0, 2_000_000])
def test_a_stub_adapter_has_the_size_that_was_asked_for(nbytes):
    package = stub_package(stub_tensors(nbytes), 3)
    assert package.digest_matches() and package.manifest.policy_version == 3
    assert nbytes * 0.9 <= package.manifest.weights_bytes <= nbytes + 100_000
    assert len(tensor_names(package)) == 392


@pytest.fixture
async def server(tmp_path):
    config = ServerConfig(kind="transformers", max_model_len=32)
    folder = write_toy_folder(tmp_path / "model")
    server = PolicyServer(folder, config, "stub", lambda _: StubEngine(), adapter_root=tmp_path)
    await server.start()
    yield server
    await server.stop()


async def test_a_server_with_a_stub_engine_takes_it_and_accounts_for_its_time(server):
    ack = await server.publish(stub_package(stub_tensors(100_000), 0))
    assert ack.max_abs_error == 0 and ack.base_gap == pytest.approx(1.0)
    times = (ack.times.check_s, ack.times.write_s, ack.times.load_s, ack.times.canary_s)
    assert min(times) > 0 and sum(times) <= ack.publish_s
    again = stub_package({name: tensor + 1 for name, tensor in stub_tensors(100_000).items()}, 1)
    assert (await server.publish(again)).digest != ack.digest


async def test_it_draws_nothing(server):
    with pytest.raises(RequestRefused, match="stub"):
        await server.sample(toy_request(policy_version=-1))
