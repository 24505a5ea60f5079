"""Sleep and wake of a server, on a fake engine that fails when it is asked for anything in its sleep."""

import ast
import asyncio
import importlib.util
from pathlib import Path

import pytest

from actors import vllm_arguments
from actors.config import ServerConfig
from actors.vllm_arguments import engine_arguments
from actors.vllm_engine import VLLMEngine
from actors.vocabulary import Vocabulary
from protocol.errors import AdapterRejected, DeadlineExceeded, RequestRefused, ServerDied, ServerStartError
from tests.actors.fake_engine import BASE_SCORE, fake_package
from tests.actors.test_policy_server import Bench
from tests.actors.toy_folder import toy_request, write_toy_folder


@pytest.fixture
async def bench(tmp_path):
    bench = Bench(tmp_path, sleep_timeout_s=0.3)
    await bench.server.start()
    await bench.server.publish(fake_package(1, shift=0.5))
    yield bench
    await bench.server.stop()


async def test_what_was_served_before_is_served_after(bench):
    before = await bench.server.sample(toy_request(policy_version=1))
    await bench.server.sleep()
    assert bench.engine.asleep and (await bench.server.status())["asleep"]
    await bench.server.wake()
    assert not bench.engine.asleep and not (await bench.server.status())["asleep"]
    after = await bench.server.sample(toy_request(policy_version=1))
    assert (after.adapter_digest, after.log_probs.tolist()) == (before.adapter_digest, [BASE_SCORE + 0.5] * 3)
    await bench.server.publish(fake_package(2, shift=0.75))
    await bench.server.retire(1)


async def test_a_sleeping_server_refuses_whatever_needs_the_engine(bench):
    await bench.server.sleep()
    for asked in (
        bench.server.sample(toy_request(policy_version=1)),
        bench.server.sample_batch([toy_request(policy_version=1)]),
        bench.server.score([8], [], [9]),
        bench.server.publish(fake_package(2)),
        bench.server.retire(1),
    ):
        with pytest.raises(RequestRefused, match=r"server-0 sleeps .*learner's turn"):
            await asked
    await bench.server.wake()
    await bench.server.publish(fake_package(2, shift=0.75))


async def test_it_finishes_its_answers_first_and_takes_no_new_ones(bench):
    bench.engine.gate.clear()
    answer = asyncio.create_task(bench.server.sample(toy_request(policy_version=1)))
    await asyncio.sleep(0)
    falling_asleep = asyncio.create_task(bench.server.sleep())
    await asyncio.sleep(0.06)
    with pytest.raises(RequestRefused):
        await bench.server.sample(toy_request(policy_version=1))
    assert not bench.engine.asleep
    bench.engine.gate.set()
    await falling_asleep
    assert answer.done() and (await answer).policy_version == 1
    assert bench.engine.asleep


async def test_an_answer_that_does_not_end_is_named_and_the_engine_stays_awake(bench):
    bench.engine.gate.clear()
    answer = asyncio.create_task(bench.server.sample(toy_request(policy_version=1)))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match=r"waited 0.3 s for the engine to finish its answers and give its GPU"):
        await bench.server.sleep()
    assert not bench.engine.asleep
    with pytest.raises(DeadlineExceeded):  # asked again, it does not claim to sleep
        await bench.server.sleep()
    bench.engine.gate.set()
    await answer
    await bench.server.sleep()
    assert bench.engine.asleep


async def test_sleeping_twice_and_waking_twice_is_harmless(bench):
    await bench.server.wake()
    for _ in range(2):
        await bench.server.sleep()
    assert bench.engine.naps == 1
    for _ in range(2):
        await bench.server.wake()
    assert (await bench.server.sample(toy_request(policy_version=1))).policy_version == 1


async def test_an_engine_that_loses_its_adapters_in_its_sleep_is_found_out_before_it_serves(bench):
    # vLLM 0.27.1 did, on some models: https://github.com/vllm-project/vllm/issues/53888
    bench.engine.forgets_in_sleep = True
    await bench.server.sleep()
    with pytest.raises(AdapterRejected, match=r"server-0 did not wake as it fell asleep: .*sleep_while_learning=false"):
        await bench.server.wake()
    with pytest.raises(RequestRefused, match="sleeps"):
        await bench.server.sample(toy_request(policy_version=1))
    with pytest.raises(RequestRefused, match="sleeps"):
        await bench.server.publish(fake_package(2))


async def test_only_versions_in_service_are_proven_again(bench):
    await bench.server.publish(fake_package(2, shift=0.75))
    await bench.server.retire(1)
    await bench.server.sleep()
    await bench.server.wake()
    with pytest.raises(AdapterRejected, match="nats"):
        await bench.server.publish(fake_package(3, shift=0.5, learner_shift=0.75))
    await bench.server.sleep()
    await bench.server.wake()
    assert (await bench.server.status())["live_versions"] == [2]


async def test_an_engine_that_dies_asleep_is_reported_at_once(bench):
    await bench.server.sleep()
    bench.engine.failure = "out of memory"
    with pytest.raises(ServerDied, match="out of memory"):
        await bench.server.wake()
    assert bench.deaths == ["out of memory"]


async def test_a_deterministic_server_sleeps_as_well(tmp_path):
    bench = Bench(tmp_path, deterministic=True)
    await bench.server.start()
    await bench.server.publish(fake_package(1))
    await bench.server.sleep()
    await bench.server.wake()
    assert (await bench.server.sample(toy_request(policy_version=1, seed=3))).policy_version == 1
    await bench.server.stop()


@pytest.mark.parametrize("cpu", [False, True])
def test_vllm_is_told_that_it_will_sleep_and_refuses_on_cpu(cpu, tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_arguments, "_is_cpu", lambda: cpu)
    folder = str(write_toy_folder(tmp_path))
    assert "enable_sleep_mode" not in engine_arguments(folder, ServerConfig())
    if cpu:
        with pytest.raises(ServerStartError, match="built for CPU, where an engine keeps its memory"):
            engine_arguments(folder, ServerConfig(sleep_while_learning=True))
    else:
        assert engine_arguments(folder, ServerConfig(sleep_while_learning=True))["enable_sleep_mode"] is True


class AsyncLLMStandIn:
    """Edge fake: the four things that the engine asks of vLLM's AsyncLLM about sleep."""

    errored = False

    def __init__(self, wake_error: Exception | None = None, wakes: bool = True) -> None:
        self.calls: list[object] = []
        self._wake_error, self._wakes, self._sleeping = wake_error, wakes, False

    async def sleep(self, level: int) -> None:
        self.calls.append(("sleep", level))
        self._sleeping = True

    async def wake_up(self) -> None:
        self.calls.append("wake_up")
        if self._wake_error is not None:
            raise self._wake_error
        self._sleeping = not self._wakes

    async def is_sleeping(self) -> bool:
        return self._sleeping


def vllm_engine(llm: AsyncLLMStandIn, tmp_path) -> VLLMEngine:
    folder = write_toy_folder(tmp_path)
    engine = VLLMEngine(str(folder), ServerConfig(), Vocabulary.from_folder(str(folder)))
    vars(engine)["_llm"] = llm
    return engine


async def test_vllm_keeps_its_weights_and_wakes_whole(tmp_path):
    llm = AsyncLLMStandIn()
    engine = vllm_engine(llm, tmp_path)
    await engine.sleep()
    await engine.wake()
    assert llm.calls == [("sleep", 1), "wake_up"]


@pytest.mark.parametrize(
    "fault", [{"wake_error": RuntimeError("CUDA out of memory")}, {"wakes": False}], ids=["no room", "refuses"]
)
async def test_a_vllm_that_does_not_wake_is_told_with_the_cure(fault, tmp_path):
    engine = vllm_engine(AsyncLLMStandIn(**fault), tmp_path)
    await engine.sleep()
    with pytest.raises(ServerStartError, match=r"did not wake.*gpu_memory_utilization"):
        await engine.wake()


def test_the_installed_vllm_has_what_the_stand_in_has():
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not installed")
    # Read, not imported: that takes ten seconds.
    tree = ast.parse(Path(found.origin).with_name("v1").joinpath("engine", "async_llm.py").read_text("utf-8"))
    methods = {n.name: [a.arg for a in n.args.args] for n in ast.walk(tree) if isinstance(n, ast.AsyncFunctionDef)}
    assert "level" in methods["sleep"] and methods["wake_up"] and methods["is_sleeping"]
