"""Idle shares from look to look; and whole chains of workers, line and server in simulated time, each held up by what
the test chose."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.config import ServerConfig
from actors.delays import CAUSES, ENVIRONMENTS, LEARNER, OTHER, TRANSPORT
from actors.engine import Completion, Draw
from actors.policy_server import PolicyServer
from actors.streaming import StreamingWorker
from cluster.bench.virtual_time import VirtualLoop, run_virtually
from cluster.servers.idle import ENGINE_CAUSES, IDLE, RESTARTS, IdleShares, main_cause
from cluster.servers.mailbox import Mailbox, Reply
from cluster.servers.ray_sampler import RaySampler
from tests.actors import conftest
from tests.actors.counting import CountingEnv, CountingTask
from tests.actors.fake_engine import FakeEngine
from tests.actors.rollouts import make_streaming_worker
from tests.actors.test_meter import Clock

tiny_folder, tiny_folder_of = conftest.tiny_folder, conftest.tiny_folder_of

BASE = -1
SLOTS = 4


def status(busy_s: float, serving_s: float, **idle_s: float) -> dict[str, Any]:
    return {"started": True, "busy_s": busy_s, "serving_s": serving_s, "idle_s": dict.fromkeys(CAUSES, 0.0) | idle_s}


def known(shares: dict[str, float]) -> dict[str, float]:
    """Idle share and causes without those that are 0."""
    return {key.removeprefix(f"{IDLE}/"): share for key, share in shares.items() if share}


def test_the_first_look_tells_nothing_and_every_cause_has_its_metric():
    shares = IdleShares().look({0: status(1.0, 2.0, learner=1.0)})
    assert set(shares) == {IDLE, *(f"{IDLE}/{cause}" for cause in ENGINE_CAUSES)}
    assert all(math.isnan(share) for share in shares.values())
    assert main_cause(shares) is None


def test_shares_are_of_all_engines_since_the_last_look():
    looks = IdleShares()
    looks.look({0: status(10.0, 20.0, learner=10.0), 1: status(0.0, 5.0, other=5.0)})
    shares = looks.look({0: status(16.0, 30.0, learner=13.0, transport=1.0), 1: status(10.0, 15.0, other=5.0)})
    assert known(shares) == {IDLE: 0.2, LEARNER: 0.15, TRANSPORT: 0.05}
    assert main_cause(shares) == LEARNER


def test_an_engine_without_a_request_is_looked_at_up_to_its_last_answer():
    looks = IdleShares()
    looks.look({0: status(1.0, 3.0, other=1.0)})  # idle for 1 s, nobody knows why
    shares = looks.look({0: status(4.0, 20.0, other=1.0, learner=2.0)})  # idle for 13 s
    assert known(shares) == {IDLE: 0.4, LEARNER: 0.4}


def test_an_engine_that_nobody_asked_was_idle_all_the_time():
    looks = IdleShares()
    for serving_s in (1.0, 2.0):
        shares = looks.look({0: status(1.0, serving_s)})
    assert known(shares) == {IDLE: 1.0, OTHER: 1.0}


def test_the_time_without_a_process_counts_as_idle():
    clock = Clock()
    looks = IdleShares(clock)
    looks.look({0: status(10.0, 10.0), 1: status(10.0, 10.0)})
    clock.now_s += 10
    assert known(looks.look({0: None, 1: status(20.0, 20.0)})) == {IDLE: 0.5, RESTARTS: 0.5}
    clock.now_s += 10
    assert known(looks.look({0: {"started": False}, 1: status(30.0, 30.0)})) == {IDLE: 0.5, RESTARTS: 0.5}
    clock.now_s += 10  # it serves again since 4 s
    shares = looks.look({0: status(3.0, 4.0, publishing=1.0), 1: status(40.0, 40.0)})
    assert known(shares) == pytest.approx({IDLE: 0.35, RESTARTS: 0.3, "publishing": 0.05})


def test_a_restart_between_two_looks_is_noticed():
    clock = Clock()
    looks = IdleShares(clock)
    looks.look({0: status(50.0, 60.0, learner=10.0)})
    clock.now_s += 10
    assert known(looks.look({0: status(5.0, 8.0, learner=3.0)})) == {IDLE: 0.5, RESTARTS: 0.2, LEARNER: 0.3}


def test_a_server_that_did_not_answer_in_time_is_left_out():
    looks = IdleShares()
    looks.look({0: status(0.0, 0.5), 1: status(0.0, 0.5)})
    assert known(looks.look({1: status(3.0, 4.0, transport=1.0)})) == {IDLE: 0.25, TRANSPORT: 0.25}


class SlowEnv(CountingEnv):
    """Its steps take time in which its worker comes to nothing else."""

    def __init__(self, step_s: float, reset_s: float = 0.0) -> None:
        super().__init__()
        self._step_s, self._reset_s = step_s, reset_s

    def step(self, action: int) -> Any:
        work(self._step_s)
        return super().step(action)

    def reset(self, **arguments: Any) -> Any:
        work(self._reset_s)
        return super().reset(**arguments)


class PacedEngine(FakeEngine):
    """Every draw takes the same time."""

    def __init__(self, draw_s: float) -> None:
        super().__init__()
        self._draw_s = draw_s

    async def draw(self, draw: Draw) -> Completion:
        await asyncio.sleep(self._draw_s)
        return await super().draw(draw)

    async def draw_batch(self, draws: Sequence[Draw]) -> list[Completion]:
        await asyncio.sleep(self._draw_s)
        return [await super(PacedEngine, self).draw(draw) for draw in draws]


class FarServer:
    """Looks like a handle of a `ServerActor` that every call reaches, and every reply leaves, after a while."""

    def __init__(self, server: PolicyServer, way_s: float) -> None:
        self._mailbox = Mailbox(server.sample_batch, lambda: 0.0, 1e6)
        self._way_s = way_s

    @property
    def exchange(self) -> "FarServer":
        return self

    def remote(self, *arguments: Any) -> Awaitable[Reply]:
        return asyncio.create_task(self._call(*arguments))

    async def _call(self, *arguments: Any) -> Reply:
        await asyncio.sleep(self._way_s)
        reply = await self._mailbox.exchange(*arguments)
        await asyncio.sleep(self._way_s)
        return reply


def work(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.work(seconds)


def idle_by_cause(
    folder: Path,
    play: Callable[[StreamingWorker], Awaitable[Any]],
    *,
    step_s: float = 0.001,
    reset_s: float = 0.0,
    draw_s: float = 0.1,
    way_s: float = 0.001,
    deterministic: bool = False,
    slots: int = SLOTS,
) -> dict[str, float]:
    """Shares of the time in which a server without requests waited for what, and the idle share itself."""

    async def main() -> dict[str, float]:
        clock = asyncio.get_running_loop().time
        config = ServerConfig(max_model_len=1024, request_timeout_s=1e5, deterministic=deterministic)
        server = PolicyServer(folder, config, "server-0", lambda vocabulary: PacedEngine(draw_s), clock=clock)
        await server.start()
        worker = make_streaming_worker(
            folder,
            RaySampler([FarServer(server, way_s)], deadline_s=1e5),
            slots=slots,
            make_env=lambda: (SlowEnv(step_s, reset_s), CountingTask()),
            deterministic=deterministic,
            sample_deadline_s=1e5,
            clock=clock,
        )
        await worker.collect(SLOTS, BASE, 1.0)
        looks = IdleShares(clock)
        looks.look({0: await server.status() | {"started": True}})
        await play(worker)
        after = await server.status()
        shares = looks.look({0: after | {"started": True}})
        assert sum(after["idle_s"].values()) <= after["serving_s"] - after["busy_s"] + 1e-9
        worker.close()
        await server.stop()
        return known(shares)

    return run_virtually(main())


def in_lock_step(turns: int, steps: int, learner_s: float) -> Callable[[StreamingWorker], Awaitable[None]]:
    async def play(worker: StreamingWorker) -> None:
        for _ in range(turns):
            await asyncio.sleep(learner_s)
            await worker.collect(steps, BASE, 1.0)

    return play


def streaming(portions: int, steps: int, learner_s: float) -> Callable[[StreamingWorker], Awaitable[None]]:
    """The next portion is ordered so long after the last one came."""

    async def play(worker: StreamingWorker) -> None:
        for _ in range(portions):
            await worker.stream(steps, BASE, 1.0)
            await asyncio.sleep(learner_s)

    return play


def by_episodes(portions: int, learner_s: float) -> Callable[[StreamingWorker], Awaitable[None]]:
    async def play(worker: StreamingWorker) -> None:
        for number in range(portions):
            await worker.stream_episodes(range(SLOTS * number, SLOTS * (number + 1)), BASE, 1.0)
            await asyncio.sleep(learner_s)

    return play


MODES = pytest.mark.parametrize("deterministic", [False, True], ids=["free", "rounds"])


@MODES
def test_in_lock_step_the_engine_waits_for_the_learner(deterministic, tiny_folder):
    """Of a turn, 3 s are the learner's, 4 x 0.1 s sampling, and what is left is little."""
    idle = idle_by_cause(tiny_folder, in_lock_step(5, 4 * SLOTS, 3.0), deterministic=deterministic)
    assert idle[LEARNER] == pytest.approx(3.0 / 3.4, abs=0.02)
    assert sum(share for cause, share in idle.items() if cause != IDLE) == pytest.approx(idle[IDLE])
    assert idle[IDLE] - idle[LEARNER] < 0.02


@MODES
def test_slow_environments_are_told_from_a_slow_way(deterministic, tiny_folder):
    """The environments of one worker take their steps one after the other; the engine is much faster."""
    play = in_lock_step(1, 30 * SLOTS, 0.0)
    slow = idle_by_cause(tiny_folder, play, step_s=0.2, draw_s=0.02, deterministic=deterministic, slots=2)
    assert slow[IDLE] > 0.8
    assert slow[ENVIRONMENTS] > 0.95 * slow[IDLE]
    far = idle_by_cause(tiny_folder, play, way_s=0.2, draw_s=0.02, deterministic=deterministic)
    assert far[IDLE] > 0.8
    assert far[TRANSPORT] > 0.9 * far[IDLE]
    assert slow[IDLE] == pytest.approx(sum(share for cause, share in slow.items() if cause != IDLE))


def test_a_stream_without_orders_waits_for_the_learner(tiny_folder):
    idle = idle_by_cause(tiny_folder, streaming(6, 5 * SLOTS, 1.0))
    assert idle[LEARNER] > 0.95 * idle[IDLE] > 0.5


def test_environments_and_learner_share_what_both_cause(tiny_folder):
    """0.1 s of sampling, 0.2 s for four steps in turn and 0.6 s without an order, over and over."""
    idle = idle_by_cause(tiny_folder, streaming(20, SLOTS, 0.6), step_s=0.05)
    assert idle[LEARNER] == pytest.approx(6 / 9, abs=0.03)
    assert idle[ENVIRONMENTS] == pytest.approx(2 / 9, abs=0.03)


def test_beginning_episodes_is_the_environments_work(tiny_folder):
    idle = idle_by_cause(tiny_folder, by_episodes(8, 0.0), reset_s=0.5, draw_s=0.01, slots=2)
    assert idle[ENVIRONMENTS] > 0.9 * idle[IDLE] > 0.5
