"""Lock-step and asynchronous runs in simulated time: the real streams and the real capacity rule, with an engine,
environments, a learner and publications that only take time.

The engine is a continuous batch: every decoding step gives each live request one token, and takes `step_s` plus
`row_step_s` for each of them. Response lengths are log-normal, as chains of thought are: the longest of a batch is
several times the mean, which is what a lock-step rollout waits for at its end. These times are assumptions of the size
that 3B-class models have on one GPU for the engine and one for the learner, not measurements.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from actors.stream import StepStream
from cluster.bench.virtual_time import run_virtually
from cluster.flow.capacity import Capacity

RUNS = LOCK_STEP, ASYNCHRONOUS, TWO_VERSIONS = "lock-step", "asynchronous", "asynchronous, 2 versions"
"""By max_staleness: 0, 1, 2."""

BOUND = "bound"
ORDERS_PER_WORKER = 2
WARM_UP_UPDATES = 2
_UNBOUNDED = 10**6


@dataclass(frozen=True, slots=True)
class Times:
    """What everything takes, in seconds."""

    name: str
    rows: int = 1024
    """Rows of an update."""
    workers: int = 4
    slots: int = 64
    """Environments of a worker."""
    env_s: float = 0.004
    """One environment step; those of a worker come one after the other."""
    mean_tokens: float = 200.0
    spread: float = 0.7
    """Standard deviation of the logarithm of a response's length."""
    max_tokens: int = 1024
    step_s: float = 0.010
    row_step_s: float = 0.00005
    learner_share: float = 1.0
    """Seconds of an update, as a share of the seconds in which the busy engine samples its rows."""
    publish_s: float = 1.0


CASES = (
    Times("learner takes half as long as sampling", learner_share=0.5),
    Times("learner takes as long as sampling"),
    Times("learner takes twice as long as sampling", learner_share=2.0),
    Times("as long as sampling; slow environments, 60 ms", env_s=0.06, workers=16, slots=16),
)


class Engine:
    """A continuous batch without a limit of its own."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._step = 0
        self._live: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()
        self._running: asyncio.Task[None] | None = None

    async def sample(self, tokens: int) -> None:
        """Return when so many tokens are drawn."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._live, (self._step + tokens, next(self._ticket), done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        while self._live:
            await asyncio.sleep(self._times.step_s + self._times.row_step_s * len(self._live))
            self._step += 1
            while self._live and self._live[0][0] <= self._step:
                heapq.heappop(self._live)[2].set_result(None)


class SimulatedRun:
    """Workers, engine, learner and driver of one run."""

    def __init__(self, times: Times, max_staleness: int, update_s: float, updates: int) -> None:
        self._times = times
        self._update_s = update_s
        self._updates = updates
        self._capacity = Capacity(times.rows, max_staleness, updates=updates)
        self._engine = Engine(times)
        self._rng = np.random.default_rng(0)
        self._location = math.log(times.mean_tokens) - times.spread**2 / 2
        self._streams = [self._stream() for _ in range(times.workers)]
        self._open = [0] * times.workers
        self._orders: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self.ended_s: list[float] = []
        """When every update ended."""

    async def run(self) -> list[float]:
        """Play all updates; when each ended."""
        publishing: asyncio.Task[None] | None = None
        for _ in range(self._updates):
            while self._capacity.take() is None:
                self._order()
                self._news.clear()
                await self._news.wait()
            await asyncio.sleep(self._update_s)
            if publishing is not None:
                await publishing
            publishing = asyncio.create_task(self._publish())
            self.ended_s.append(asyncio.get_running_loop().time())
        for stream in self._streams:
            stream.close()
        assert publishing is not None
        await publishing
        return self.ended_s

    async def _publish(self) -> None:
        await asyncio.sleep(self._times.publish_s)
        self._capacity.acknowledge(self._capacity.version + 1)
        self._order()

    def _stream(self) -> StepStream[int, None, None]:
        cpu = asyncio.Lock()

        async def advance(slot: int, version: int, temperature: float) -> None:
            tokens = int(min(self._rng.lognormal(self._location, self._times.spread), self._times.max_tokens)) + 1
            await self._engine.sample(tokens)
            async with cpu:
                await asyncio.sleep(self._times.env_s)

        def nothing(*_: object) -> None:
            """Rows are not simulated."""

        return StepStream(range(self._times.slots), advance, nothing, nothing)

    def _order(self) -> None:
        chunk = self._times.rows // self._times.workers
        while self._capacity.room_rows >= chunk and min(self._open) < ORDERS_PER_WORKER:
            worker = self._open.index(min(self._open))
            name = object()
            self._capacity.begin(name, chunk)
            self._open[worker] += 1
            order = asyncio.create_task(self._collect(worker, name, chunk))
            self._orders.add(order)
            order.add_done_callback(self._orders.discard)

    async def _collect(self, worker: int, name: object, rows: int) -> None:
        await self._streams[worker].collect(rows, self._capacity.version, 1.0)
        self._open[worker] -= 1
        self._capacity.arrive(name)
        self._order()
        self._news.set()


def rate(times: Times, max_staleness: int, update_s: float, updates: int) -> float:
    """Environment steps per simulated second, once the run is under way."""

    async def play() -> list[float]:
        return await SimulatedRun(times, max_staleness, update_s, updates).run()

    ended_s = run_virtually(play())
    counted = ended_s[min(WARM_UP_UPDATES, updates - 2) :]
    return times.rows * (len(counted) - 1) / (counted[-1] - counted[0])


def sampling_rate(times: Times, updates: int) -> float:
    """Environment steps per second where nothing ever holds the workers up."""
    return rate(replace(times, publish_s=0.0), _UNBOUNDED, 0.0, updates)


def simulate(times: Times, updates: int) -> dict[str, float]:
    """Environment steps per second in lock-step, asynchronously (max_staleness 1 and 2), and the bound: of the
    slower one of sampler and learner, each on its own."""
    sampler = sampling_rate(times, updates)
    update_s = times.learner_share * times.rows / sampler
    bound = min(sampler, times.rows / update_s)
    found = {who: rate(times, staleness, update_s, updates) for staleness, who in enumerate(RUNS)}
    return found | {BOUND: bound}
