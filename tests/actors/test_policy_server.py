import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.config import ServerConfig
from actors.delays import Delays
from actors.policy_server import PolicyServer
from protocol.errors import (
    AdapterRejected,
    DeadlineExceeded,
    RequestRefused,
    ServerDied,
    ServerStartError,
    UnknownPolicyVersion,
)
from protocol.trajectory import BASE_POLICY_VERSION, NO_DIGEST
from tests.actors.fake_engine import BASE_SCORE, RESPONSE, FakeEngine, fake_package
from tests.actors.test_meter import Clock
from tests.actors.toy_folder import IMAGE, png_bytes, toy_request, write_toy_folder

LIMITS: dict[str, Any] = {"max_model_len": 32, "adapter_slots": 3, "publish_timeout_s": 5.0}


class Bench:
    """A server on a fake engine, and everything a test wants to poke."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic, **config: Any):
        self.engine = FakeEngine()
        self.deaths: list[str] = []
        self.adapters = folder / "adapters"
        self.adapters.mkdir()
        self.server = PolicyServer(
            write_toy_folder(folder / "model"),
            ServerConfig(**(LIMITS | config)),
            "server-0",
            lambda vocabulary: self.engine,
            on_death=self.deaths.append,
            adapter_root=self.adapters,
            clock=clock,
        )

    def stored(self) -> list[str]:
        return sorted(path.name for path in self.adapters.glob("*/*/policy-*"))


@pytest.fixture
async def bench(tmp_path):
    bench = Bench(tmp_path)
    await bench.server.start()
    yield bench
    await bench.server.stop()


@pytest.fixture
async def deterministic(tmp_path):
    bench = Bench(tmp_path, deterministic=True)
    await bench.server.start()
    yield bench
    await bench.server.stop()


async def test_a_sample_carries_version_digest_and_text(bench):
    package = fake_package(1, shift=0.5)
    await bench.server.publish(package)
    sample = await bench.server.sample(toy_request(policy_version=1))
    assert (sample.policy_version, sample.adapter_digest) == (1, package.manifest.digest)
    assert sample.log_probs.tolist() == [BASE_SCORE + 0.5] * 3
    assert sample.token_ids.tolist() == RESPONSE and sample.text == "ab}"


async def test_the_base_model_always_answers(bench):
    sample = await bench.server.sample(toy_request(policy_version=BASE_POLICY_VERSION))
    assert (sample.policy_version, sample.adapter_digest) == (BASE_POLICY_VERSION, NO_DIGEST)


async def test_an_acknowledgement_holds_the_evidence(bench):
    package = fake_package(4, shift=0.5, learner_shift=0.5005)
    ack = await bench.server.publish(package)
    assert (ack.policy_version, ack.digest, ack.server_id) == (4, package.manifest.digest, "server-0")
    assert ack.max_abs_error == pytest.approx(5e-4, rel=1e-2)
    assert ack.base_gap == pytest.approx(0.5)
    parts = (ack.times.check_s, ack.times.write_s, ack.times.load_s, ack.times.canary_s)
    assert min(parts) > 0 and sum(parts) <= ack.publish_s


async def test_publishing_again_gives_the_same_acknowledgement(bench):
    first = await bench.server.publish(fake_package(1))
    assert await bench.server.publish(fake_package(1)) is first


@pytest.mark.parametrize(
    ("package", "complaint"),
    [
        (fake_package(2, shift=1.0, learner_shift=2.0), "the canary is 1 nats"),
        (fake_package(2, r=7), "no kernels for rank 7"),
        (fake_package(2, r=99), "rank 99"),
        (fake_package(2, shift=float("nan"), learner_shift=0.0), "nan"),
    ],
)
async def test_a_rejected_adapter_leaves_the_old_version_serving(bench, package, complaint):
    await bench.server.publish(fake_package(1))
    with pytest.raises(AdapterRejected, match=complaint):
        await bench.server.publish(package)
    status = await bench.server.status()
    assert (status["policy_version"], status["live_versions"], status["rejected"]) == (1, [1], 1)
    assert (list(bench.engine.loaded), bench.stored()) == ([1], ["policy-v1"])
    assert (await bench.server.sample(toy_request(policy_version=1))).policy_version == 1
    with pytest.raises(UnknownPolicyVersion):
        await bench.server.sample(toy_request(policy_version=2))


async def test_an_engine_that_ignores_adapters_is_caught(bench):
    bench.engine.ignores_adapters = True
    with pytest.raises(AdapterRejected, match="not in effect"):
        await bench.server.publish(fake_package(1))


async def test_a_canary_the_server_cannot_read_rejects_the_adapter(bench):
    package = fake_package(1)
    object.__setattr__(package.canaries[0], "prompt_token_ids", [IMAGE, IMAGE])
    with pytest.raises(AdapterRejected, match="bad canary: the prompt holds 2 image placeholders"):
        await bench.server.publish(package)


async def test_a_request_keeps_its_version_while_a_newer_one_is_published(bench):
    await bench.server.publish(fake_package(1, shift=0.25))
    bench.engine.gate.clear()
    running = asyncio.create_task(bench.server.sample(toy_request(policy_version=1)))
    await asyncio.sleep(0.01)
    await bench.server.publish(fake_package(2, shift=0.75))
    assert (await bench.server.status())["policy_version"] == 2
    bench.engine.gate.set()
    sample = await running
    assert sample.policy_version == 1 and sample.log_probs[0] == BASE_SCORE + 0.25


async def test_a_full_server_retires_its_oldest_version(bench):
    for version in (1, 2, 3, 4):
        await bench.server.publish(fake_package(version))
    assert (await bench.server.status())["live_versions"] == [2, 3, 4]
    assert (sorted(bench.engine.loaded), bench.stored()) == (
        [2, 3, 4],
        ["policy-v2", "policy-v3", "policy-v4"],
    )
    with pytest.raises(UnknownPolicyVersion, match="1 is retired"):
        await bench.server.sample(toy_request(policy_version=1))


async def test_a_live_request_keeps_its_adapter_loaded_until_it_ends(bench):
    for version in (1, 2):
        await bench.server.publish(fake_package(version))
    bench.engine.gate.clear()
    running = asyncio.create_task(bench.server.sample(toy_request(policy_version=1)))
    await asyncio.sleep(0.01)
    retiring = asyncio.create_task(bench.server.retire(1))
    await asyncio.sleep(0.01)
    assert 1 in bench.engine.loaded and "policy-v1" in bench.stored()
    with pytest.raises(UnknownPolicyVersion):
        await bench.server.sample(toy_request(policy_version=1))
    bench.engine.gate.set()
    assert (await running).policy_version == 1
    await retiring
    assert (list(bench.engine.loaded), bench.stored()) == ([2], ["policy-v2"])


async def test_a_stuck_request_delays_a_publish_only_until_the_deadline(tmp_path):
    bench = Bench(tmp_path, adapter_slots=2, request_timeout_s=0.1)
    await bench.server.start()
    for version in (1, 2):
        await bench.server.publish(fake_package(version))
    slot = bench.server._slots.lease(1)
    slot.__enter__()
    with pytest.raises(DeadlineExceeded, match="requests of policy version 1"):
        await bench.server.publish(fake_package(3))
    assert (await bench.server.status())["policy_version"] == 2
    await bench.server.stop()


async def test_score_under_a_version_and_under_the_base(bench):
    await bench.server.publish(fake_package(1, shift=0.5))
    arguments = ([IMAGE, 8], [png_bytes()], [8, 9])
    assert (await bench.server.score(*arguments, policy_version=1)).tolist() == [BASE_SCORE + 0.5] * 2
    assert (await bench.server.score(*arguments)).tolist() == [BASE_SCORE] * 2


async def test_refused_requests_are_counted_and_do_not_reach_the_engine(bench):
    bench.engine.draw_error = AssertionError("reached the engine")
    with pytest.raises(RequestRefused):
        await bench.server.sample(toy_request(prompt_token_ids=[]))
    assert (await bench.server.status())["refused"] == 1


async def test_one_bad_request_of_a_batch_does_not_stop_the_others(bench):
    with pytest.raises(RequestRefused):
        await bench.server.sample_batch([toy_request(), toy_request(prompt_token_ids=[]), toy_request()])
    assert (await bench.server.status())["samples"] == 2


async def test_a_batch_answers_in_order(bench):
    for version in (1, 2):
        await bench.server.publish(fake_package(version))
    samples = await bench.server.sample_batch([toy_request(policy_version=v) for v in (2, -1, 1)])
    assert [sample.policy_version for sample in samples] == [2, -1, 1]


async def test_deterministic_batches_have_the_engine_alone(deterministic):
    seeded = [toy_request(seed=n) for n in range(3)]
    await asyncio.gather(
        deterministic.server.sample_batch(seeded),
        deterministic.server.sample(seeded[0]),
        deterministic.server.publish(fake_package(1)),
        deterministic.server.sample_batch(seeded[:2]),
    )
    assert deterministic.engine.batches == [3, 1, 2]


async def test_an_answer_that_does_not_come_is_named(tmp_path):
    bench = Bench(tmp_path, request_timeout_s=0.05)
    await bench.server.start()
    bench.engine.gate.clear()
    with pytest.raises(DeadlineExceeded, match="waited 0.05 s for a completion under policy version -1"):
        await bench.server.sample(toy_request())
    assert bench.engine.in_flight == 0
    await bench.server.stop()


async def test_an_engine_that_dies_over_a_request_says_why(bench):
    bench.engine.gate.clear()
    running = asyncio.create_task(bench.server.sample(toy_request()))
    await asyncio.sleep(0.01)
    bench.engine.draw_error, bench.engine.failure = RuntimeError("core gone"), "out of memory"
    bench.engine.gate.set()
    with pytest.raises(ServerDied, match="out of memory"):
        await running
    with pytest.raises(ServerDied, match="out of memory"):
        await bench.server.sample(toy_request())
    status = await bench.server.status()
    assert (status["alive"], status["cause_of_death"]) == (False, "out of memory")
    assert bench.deaths == ["out of memory"]


async def test_a_request_that_a_dead_engine_never_answers_ends_with_it(bench):
    bench.engine.gate.clear()
    running = asyncio.create_task(bench.server.sample(toy_request()))
    await asyncio.sleep(0.01)
    bench.engine.failure = "killed"
    with pytest.raises(ServerDied, match="died over a completion under policy version -1: killed"):
        await asyncio.wait_for(running, 3)
    assert bench.deaths == ["killed"]


async def test_a_death_is_noticed_without_any_request(bench):
    bench.engine.failure = "killed"
    async with asyncio.timeout(3):
        while not bench.deaths:
            await asyncio.sleep(0.02)
    assert bench.deaths == ["killed"]


async def test_a_publish_into_a_dead_engine_is_a_death_and_no_rejection(bench):
    bench.engine.load_error = RuntimeError("core gone")
    bench.engine.failure = "killed"
    with pytest.raises(ServerDied, match="killed"):
        await bench.server.publish(fake_package(1))
    assert (await bench.server.status())["rejected"] == 0


async def test_an_error_of_a_living_engine_is_passed_on(bench, monkeypatch):
    monkeypatch.setattr("actors.engine_host._DEATH_NOTICE_S", 0.05)
    bench.engine.draw_error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await bench.server.sample(toy_request())
    assert bench.deaths == []


async def test_a_server_that_does_not_start_leaves_nothing_behind(tmp_path):
    bench = Bench(tmp_path)
    bench.engine.start_error = ServerStartError("no memory", "buy some")
    with pytest.raises(ServerStartError, match="no memory"):
        await bench.server.start()
    await bench.server.stop()
    assert bench.engine.stops >= 1 and list(bench.adapters.iterdir()) == []
    assert (await bench.server.status())["alive"] is False


async def test_a_folder_without_a_model_is_named_at_once(tmp_path):
    server = PolicyServer(tmp_path / "nothing", ServerConfig(), "server-0", lambda vocabulary: FakeEngine())
    with pytest.raises(ServerStartError, match=r"nothing/config.json.*Cure: give a local Hugging Face model folder"):
        await server.start()


async def test_stop_removes_the_files_and_ends_the_service(bench):
    await bench.server.publish(fake_package(1))
    await bench.server.stop()
    await bench.server.stop()
    assert list(bench.adapters.iterdir()) == []
    assert (await bench.server.status())["alive"] is False
    with pytest.raises(ServerDied, match="is stopped"):
        await bench.server.sample(toy_request())
    assert bench.deaths == []


async def test_a_request_in_flight_ends_when_the_server_stops(bench):
    bench.engine.gate.clear()
    running = asyncio.create_task(bench.server.sample(toy_request()))
    await asyncio.sleep(0.01)
    await bench.server.stop()
    with pytest.raises(ServerDied, match="is stopped"):
        await asyncio.wait_for(running, 1)


async def test_before_start_and_after_a_second_start(tmp_path):
    bench = Bench(tmp_path)
    with pytest.raises(ServerDied, match="is not started"):
        await bench.server.sample(toy_request())
    info = await bench.server.start()
    assert info.banned_token_ids and info.adapter_slots == 3 and info.engine_version == "fake 1"
    with pytest.raises(ServerStartError, match="was started before"):
        await bench.server.start()
    await bench.server.stop()


async def test_the_status_tells_how_busy_the_server_is(bench):
    before = await bench.server.status()
    assert (before["in_flight"], before["busy_s"]) == (0, 0.0)
    assert before["serving_s"] > 0.0, "it serves since the engine came up"
    bench.engine.gate.clear()
    running = [asyncio.create_task(bench.server.sample(toy_request())) for _ in range(2)]
    await asyncio.sleep(0.01)
    during = await bench.server.status()
    assert during["in_flight"] == bench.server.in_flight == 2
    bench.engine.gate.set()
    await asyncio.gather(*running)
    after = await bench.server.status()
    assert after["in_flight"] == 0
    assert 0.0 < during["busy_s"] <= after["busy_s"] <= after["serving_s"]


async def test_the_status_tells_what_the_server_waited_for(tmp_path):
    clock = Clock()
    bench = Bench(tmp_path, clock=clock)
    await bench.server.start()
    clock.now_s += 5
    await bench.server.sample(toy_request(delays=Delays(begin_s=2.0, order_s=1.0)))
    idle_s = (await bench.server.status())["idle_s"]
    assert {cause: seconds for cause, seconds in idle_s.items() if seconds} == {
        "environments": 2.0,
        "learner": 1.0,
        "other": 2.0,
    }
    publish = asyncio.create_task(bench.server.publish(fake_package(1)))
    while not publish.done():
        clock.now_s += 1
        await asyncio.sleep(0)
    clock.now_s += 4
    await bench.server.sample(toy_request(policy_version=1, delays=Delays(order_s=1000.0)))
    status = await bench.server.status()
    assert status["idle_s"]["publishing"] > 0 and status["idle_s"]["learner"] >= 5.0
    assert sum(status["idle_s"].values()) + status["busy_s"] == pytest.approx(status["serving_s"])
    await bench.server.stop()


async def test_a_deterministic_batch_tells_of_the_time_before_it(deterministic):
    told = [toy_request(seed=n, delays=Delays(begin_s=1000.0 * n)) for n in range(2)]
    await deterministic.server.sample_batch(told)
    idle_s = (await deterministic.server.status())["idle_s"]
    assert idle_s["environments"] == sum(idle_s.values()) > 0, "its last request was made last"


async def test_a_deterministic_batch_is_live_while_it_waits_for_its_turn(deterministic):
    deterministic.engine.gate.clear()
    seeded = [toy_request(seed=n) for n in range(3)]
    running = [asyncio.create_task(deterministic.server.sample_batch(part)) for part in (seeded, seeded[:2])]
    await asyncio.sleep(0.01)
    assert deterministic.server.in_flight == 5
    deterministic.engine.gate.set()
    await asyncio.gather(*running)
    assert deterministic.server.in_flight == 0
