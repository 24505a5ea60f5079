"""The line between sampler and servers in real Ray processes: errors, a server that dies, a client that vanishes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from actors.sampler import SampleRequest, SamplingParams
from cluster.config import RayConfig
from cluster.runtime.processes import end_actor
from cluster.runtime.ray_session import ray_session
from cluster.runtime.waiting import get
from cluster.servers.mailbox import Batch, Mailbox, Reply
from cluster.servers.ray_sampler import RaySampler
from protocol.errors import RequestRefused

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(200)]

PARAMS = SamplingParams(temperature=1.0, max_tokens=4)
FORGET_S = 1.0


class BugThatCannotTravel(Exception):
    """Holds what no process can hand to another."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.held = (number for number in [1])


class ScriptedServer:
    """A mailbox over a script: a request's first token is the milliseconds that its answer takes, or a failure."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mailbox = Mailbox(self._sample_batch, lambda: 0.0, FORGET_S)
        self._calls = 0

    async def exchange(self, client: str, turn: int, batches: Sequence[Batch]) -> Reply:
        self._calls += 1
        return await self._mailbox.exchange(client, turn, batches)

    async def _sample_batch(self, requests: Sequence[SampleRequest]) -> list[Any]:
        (request,) = requests
        token = request.prompt_token_ids[0]
        if token == -1:
            raise RequestRefused("no such token", "ask for another")
        if token == -2:
            raise BugThatCannotTravel("a bug")
        await asyncio.sleep(token / 1000)
        return [self._name]

    async def look(self) -> tuple[int, int, list[str]]:
        """Process id, calls, and clients."""
        return os.getpid(), self._calls, self._mailbox.clients


class ScriptedWorker:
    """Asks for one thing and never looks at the answer again."""

    def __init__(self, server: Any) -> None:
        self._sampler = RaySampler([server], 60.0)

    async def ask(self, milliseconds: int) -> None:
        task = asyncio.create_task(self._sampler.sample(request(milliseconds)))
        await asyncio.sleep(0.1)
        assert not task.done()


def request(token: int) -> SampleRequest:
    return SampleRequest([token], (), (), PARAMS, 0)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with ray_session(RayConfig(address="local"), logical_cpus=4):
        yield


def start(name: str, max_restarts: int = 0) -> Any:
    handle = ray.remote(ScriptedServer).options(num_cpus=0, max_concurrency=64, max_restarts=max_restarts).remote(name)
    look(handle)
    return handle


def look(handle: Any) -> tuple[int, int, list[str]]:
    return get(handle.look.remote(), "a look at the server", 60)


async def test_many_requests_are_few_calls_and_each_gets_its_own_answer() -> None:
    server = start("a")
    target = RaySampler([server], 60.0)
    tokens = [50, 1, -1, 20, -2, 20, 20, 20] * 8
    answers = await asyncio.gather(*(target.sample(request(token)) for token in tokens), return_exceptions=True)
    for token, answer in zip(tokens, answers, strict=True):
        if token == -1:
            assert isinstance(answer, RequestRefused) and answer.cure == "ask for another"
        elif token == -2:
            assert isinstance(answer, RayTaskError) and "BugThatCannotTravel" in str(answer)
        else:
            assert answer == "a"
    assert look(server)[1] <= len(tokens) / 4


async def test_what_a_killed_server_owed_comes_from_another_and_later_from_itself() -> None:
    doomed, other = start("doomed", max_restarts=1), start("other")
    target = RaySampler([doomed, other], 60.0)
    tasks = [asyncio.create_task(target.sample(request(1500))) for _ in range(64)]
    await asyncio.sleep(0.5)
    os.kill(look(doomed)[0], signal.SIGKILL)
    assert await asyncio.gather(*tasks) == ["other"] * 64
    async with asyncio.timeout(60):
        while "doomed" not in await asyncio.gather(*(target.sample(request(50)) for _ in range(8))):
            await asyncio.sleep(0.1)


async def test_a_worker_that_is_killed_is_forgotten() -> None:
    server = start("a")
    worker = ray.remote(ScriptedWorker).options(num_cpus=0).remote(server)
    get(worker.ask.remote(60_000), "the worker's question", 60)
    assert len(look(server)[2]) == 1
    end_actor(worker)
    end = time.monotonic() + 30
    while look(server)[2]:
        assert time.monotonic() < end, "waited 30 s for the server to forget a client"
        await asyncio.sleep(0.2)
