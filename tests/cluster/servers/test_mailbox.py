"""The server's side of the line: what is finished goes home, slow or wrong batches hold nobody up, nothing leaks."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from cluster.servers import mailbox as mailbox_file
from cluster.servers.mailbox import Mailbox
from protocol.errors import RequestRefused

FORGET_S = 0.2


class Engine:
    """Finishes the batches that the test names: a batch is a list of one gate's name."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Future[None]] = {}
        self.begun: list[list[str]] = []

    async def sample_batch(self, requests: Sequence[Any]) -> list[Any]:
        self.begun.append(list(requests))
        self.gates[requests[0]] = gate = asyncio.get_running_loop().create_future()
        await gate
        return [f"sample of {request}" for request in requests]

    def finish(self, *names: str) -> None:
        for name in names:
            self.gates[name].set_result(None)


class Line:
    """One client of one mailbox."""

    def __init__(self, mailbox: Mailbox, client: str = "worker") -> None:
        self.mailbox = mailbox
        self.client = client
        self.turn = 0

    def call(self, *batches: tuple[int, list[Any]]) -> asyncio.Task[Any]:
        self.turn += 1
        return asyncio.create_task(self.mailbox.exchange(self.client, self.turn, batches))


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def mailbox(engine: Engine) -> Mailbox:
    return Mailbox(engine.sample_batch, lambda: 0.5, FORGET_S)


@pytest.fixture
def line(mailbox: Mailbox) -> Line:
    return Line(mailbox)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_finishes_together_goes_home_together(engine, line):
    call = line.call((0, ["a", "a2"]), (1, ["b"]), (2, ["c"]))
    await turns()
    assert engine.begun == [["a", "a2"], ["b"], ["c"]], "each batch is one call of the engine"
    engine.finish("b", "a")
    reply = await call
    assert reply.finished == [(1, ["sample of b"]), (0, ["sample of a", "sample of a2"])]
    assert reply.crowding == 0.5
    call = line.call()
    await turns()
    engine.finish("c")
    assert (await call).finished == [(2, ["sample of c"])], "each answer is told once"


async def test_a_slow_batch_delays_no_other(engine, line):
    call = line.call((0, ["slow"]), (1, ["fast"]))
    await turns()
    engine.finish("fast")
    assert (await asyncio.wait_for(call, 2)).finished == [(1, ["sample of fast"])]


async def test_an_answer_waits_for_company_only_for_a_share_of_its_own_time(engine, line, monkeypatch):
    monkeypatch.setattr(mailbox_file, "HOLD_SHARE", 10.0)
    call = line.call((0, ["a"]), (1, ["b"]), (2, ["c"]), (3, ["d"]))
    await asyncio.sleep(0.02)
    engine.finish("a")
    await asyncio.sleep(0.02)
    assert not call.done(), "it took 20 ms and may wait for ten times as long"
    engine.finish("b")
    assert [number for number, _ in (await call).finished] == [0, 1]
    call = line.call()
    await turns()
    engine.finish("c", "d")
    assert [number for number, _ in (await asyncio.wait_for(call, 0.2)).finished] == [2, 3], "nothing is left to come"


async def test_new_requests_begin_although_a_call_waits_and_free_it(engine, line):
    first = line.call((0, ["slow"]))
    await turns()
    second = line.call((1, ["new"]))
    assert (await asyncio.wait_for(first, 2)).finished == []
    engine.finish("slow", "new")
    assert len((await second).finished) == 2, "the newest call has the answers of all"


async def test_a_call_that_was_overtaken_brings_its_requests_and_does_not_wait(engine, mailbox):
    newer = asyncio.create_task(mailbox.exchange("worker", 2, [(1, ["b"])]))
    await turns()
    older = await asyncio.wait_for(mailbox.exchange("worker", 1, [(0, ["a"])]), 2)
    assert older.finished == [] and not newer.done()
    engine.finish("a")
    assert (await asyncio.wait_for(newer, 2)).finished == [(0, ["sample of a"])]


async def test_a_call_without_news_ends_at_its_deadline(line, monkeypatch):
    monkeypatch.setattr(mailbox_file, "POLL_S", 0.01)
    assert (await asyncio.wait_for(line.call((0, ["slow"])), 2)).finished == []


async def test_clients_get_their_own_answers(engine, mailbox):
    calls = [Line(mailbox, client).call((0, [client])) for client in ("one", "two")]
    await turns()
    engine.finish("two", "one")
    assert [(await call).finished for call in calls] == [[(0, ["sample of one"])], [(0, ["sample of two"])]]


async def test_an_error_goes_home_as_the_answer_of_its_batch_alone(line, mailbox):
    refused, bug = RequestRefused("too long"), ZeroDivisionError("a bug")

    async def sample_batch(requests: Sequence[Any]) -> list[Any]:
        if isinstance(requests[0], Exception):
            raise requests[0]
        return ["fine"]

    mailbox._sample_batch = sample_batch
    finished = dict((await line.call((0, [refused]), (1, ["good"]), (2, [bug]))).finished)
    assert finished[0] is refused and finished[1] == ["fine"]
    assert isinstance(finished[2], RayTaskError) and finished[2].cause is bug
    assert "in sample_batch" in finished[2].traceback_str, "where it was raised"


async def test_a_client_that_vanishes_is_forgotten(engine, mailbox):
    call = Line(mailbox, "gone").call((0, ["finished"]), (1, ["never"]))
    await turns()
    call.cancel()
    engine.finish("finished")
    async with asyncio.timeout(10 * FORGET_S):
        while mailbox.clients:
            await asyncio.sleep(0.01)
    assert engine.gates["never"].cancelled(), "nobody wants what it was working on"


async def test_a_client_that_waits_is_not_forgotten_and_one_that_comes_back_is_met_anew(engine, line, mailbox):
    call = line.call((0, ["a"]))
    await asyncio.sleep(1.5 * FORGET_S)
    assert mailbox.clients == ["worker"]
    engine.finish("a")
    before = await call
    async with asyncio.timeout(10 * FORGET_S):
        while mailbox.clients:
            await asyncio.sleep(0.01)
    call = line.call((1, ["b"]))
    await turns()
    engine.finish("b")
    after = await call
    assert after.finished == [(1, ["sample of b"])] and after.memory != before.memory
