"""The workers' sampler: spreads requests, carries many in a call, and sends those of a dead server to another."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from actors.sampler import SampleRequest, SamplingParams
from cluster.servers import channel as channel_file
from cluster.servers.channel import Channel
from cluster.servers.mailbox import Batch, Mailbox, Reply
from cluster.servers.ray_sampler import RaySampler
from cluster.servers.routing import FIRST_CAP, Router
from protocol.errors import CroupierError, DeadlineExceeded, RequestRefused, ServerDied, UnknownPolicyVersion

PARAMS = SamplingParams(temperature=1.0, max_tokens=4)


class FakeServerHandle:
    """Looks like a handle of a `ServerActor`: answers with its own name, after failing as often as told."""

    def __init__(self, name: str, *failures: Exception) -> None:
        self.name = name
        self.failures = list(failures)
        """Raised by the next calls, one each."""
        self.calls: list[list[list[int]]] = []
        """For every call that brought requests: the first tokens of the requests, by batch."""
        self.batches: list[list[int]] = []
        """The first tokens of the requests of every batch that was sampled."""
        self.gate: asyncio.Event | None = None
        """While it is closed, nothing is answered."""
        self.slow: dict[int, asyncio.Event] = {}
        """Closed gates of single requests, by their first token."""
        self.errors: dict[int, Exception] = {}
        """What sampling raises for a request, by its first token."""
        self.is_gone = False
        self.mailbox = Mailbox(self._sample_batch, lambda: 0.0, 60.0)

    @property
    def exchange(self) -> "FakeServerHandle":
        return self

    async def remote(self, client: str, turn: int, batches: Sequence[Batch]) -> Reply:
        if batches:
            self.calls.append([tokens_of(requests) for _, requests in batches])
        if self.failures:
            raise self.failures.pop(0)
        call = asyncio.create_task(self.mailbox.exchange(client, turn, batches))
        while not call.done():
            if self.is_gone:
                call.cancel()
                raise gone()
            await asyncio.sleep(0.001)
        return call.result()

    async def _sample_batch(self, requests: Sequence[SampleRequest]) -> list[Any]:
        tokens = tokens_of(requests)
        self.batches.append(tokens)
        if self.gate is not None:
            await self.gate.wait()
        for token in tokens:
            if token in self.slow:
                await self.slow[token].wait()
            if token in self.errors:
                raise self.errors[token]
        return [f"{self.name}:{token}" for token in tokens]

    def close(self) -> None:
        self.gate = asyncio.Event()

    def open(self) -> None:
        assert self.gate is not None
        self.gate.set()


def tokens_of(requests: Sequence[SampleRequest]) -> list[int]:
    return [request.prompt_token_ids[0] for request in requests]


def ask(*tokens: int) -> list[SampleRequest]:
    return [SampleRequest([token], (), (), PARAMS, 0) for token in tokens]


def gone() -> Exception:
    return ActorUnavailableError("the process is restarting", actor_id=b"0" * 16)


def raised_there(error: Exception) -> Exception:
    """An exception of the method itself, as Ray brings it home."""
    return RayTaskError("exchange", "a remote traceback", error)


def sampler(*handles: FakeServerHandle, deadline_s: float = 5.0) -> RaySampler:
    return RaySampler(handles, deadline_s)


def begin(target: RaySampler, *batches: Sequence[int]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(target.sample_batch(ask(*batch))) for batch in batches]


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0.001)


async def test_answers_come_back_in_the_order_of_the_requests():
    server = FakeServerHandle("a")
    target = sampler(server)
    assert await target.sample_batch(ask(1, 2)) == ["a:1", "a:2"]
    assert await target.sample(ask(3)[0]) == "a:3"
    assert server.calls == [[[1, 2]], [[3]]]


async def test_requests_of_one_moment_are_one_call_and_the_next_moment_another(monkeypatch):
    monkeypatch.setattr(channel_file, "LINGER_S", 60.0)  # however busy the machine is
    server = FakeServerHandle("a")
    target = sampler(server)

    async def play(slot: int) -> list[Any]:
        return [await target.sample_batch(ask(100 * step + slot)) for step in range(3)]

    answers = await asyncio.gather(*map(play, range(4)))
    assert answers == [[[f"a:{100 * step + slot}"] for step in range(3)] for slot in range(4)]
    assert server.calls == [[[100 * step + slot] for slot in range(4)] for step in range(3)]


async def test_a_batch_stays_one_batch_whatever_travels_with_it():
    server = FakeServerHandle("a")
    await asyncio.gather(*begin(sampler(server), [1], [2, 3, 4], [5]))
    assert server.calls == [[[1], [2, 3, 4], [5]]]
    assert server.batches == [[1], [2, 3, 4], [5]]


async def test_a_slow_request_delays_neither_answers_nor_new_requests():
    server = FakeServerHandle("a")
    server.slow[1] = asyncio.Event()
    target = sampler(server)
    slow, fast = begin(target, [1], [2])
    assert await asyncio.wait_for(fast, 2) == ["a:2"]
    for token in (3, 4):
        assert await asyncio.wait_for(target.sample(ask(token)[0]), 2) == f"a:{token}"
    assert not slow.done()
    server.slow[1].set()
    assert await asyncio.wait_for(slow, 2) == ["a:1"]


async def test_the_first_batch_of_a_call_tells_that_it_waited_for_the_others(monkeypatch):
    monkeypatch.setattr(channel_file, "LINGER_S", 60.0)
    server, told = FakeServerHandle("a"), []

    async def sample(requests: Sequence[SampleRequest]) -> list[Any]:
        told.append([request.delays.begin_s for request in requests])
        return [None] * len(requests)

    server.mailbox = Mailbox(sample, lambda: 0.0, 60.0)
    target = sampler(server)
    tasks = begin(target, [1, 2], [3])
    asyncio.get_running_loop().call_soon(time.sleep, 0.01)  # an environment
    await asyncio.gather(*tasks)
    assert told[0][0] == 0.0 and told[0][1] >= 0.01 and told[1] == [0.0]


async def test_requests_leave_before_the_turn_ends_when_it_takes_long(monkeypatch):
    monkeypatch.setattr(channel_file, "LINGER_S", 0.0)
    server = FakeServerHandle("a")
    sent: list[int] = []

    def remote(client: str, turn: int, batches: Sequence[Batch]) -> Any:
        sent.append(len(batches))
        return FakeServerHandle.remote(server, client, turn, batches)

    monkeypatch.setattr(server, "remote", remote)
    target = sampler(server)
    tasks = begin(target, [1], [2])
    asyncio.get_running_loop().call_soon(lambda: sent.append(-1))
    await asyncio.gather(*tasks)
    assert sent[:2] == [2, -1], "although the same turn had more to do"


async def test_requests_go_to_the_least_busy_server():
    servers = [FakeServerHandle(name) for name in "abc"]
    for server in servers:
        server.close()
    target = sampler(*servers)
    tasks = begin(target, range(1, 10), [14], [15, 16], [17, 18], [19])
    await soon(lambda: sum(len(server.batches) for server in servers) == 5)
    assert [server.batches for server in servers] == [[[*range(1, 10)]], [[14], [17, 18]], [[15, 16], [19]]]
    for server in servers:
        server.open()
    await asyncio.gather(*tasks)
    await target.sample_batch(ask(20))
    assert servers[0].batches[-1] == [20], "nothing counts as in flight once it is answered"


async def test_requests_that_begin_alike_go_to_the_server_that_saw_the_last_one():
    servers = [FakeServerHandle(name) for name in "ab"]
    for server in servers:
        server.close()
    tasks = begin(sampler(*servers), [1], [2], [2], [2])
    await soon(lambda: sum(len(server.batches) for server in servers) == 4)
    assert [server.batches for server in servers] == [[[1]], [[2], [2], [2]]]
    for server in servers:
        server.open()
    await asyncio.gather(*tasks)


async def test_a_full_cap_delays_and_drops_nothing(monkeypatch):
    monkeypatch.setattr(Router, "hear", lambda router, index, crowding: None)
    server = FakeServerHandle("a")
    server.close()
    tokens = range(1, FIRST_CAP + 11)
    tasks = begin(sampler(server), *[[token] for token in tokens])
    await soon(lambda: len(server.batches) == FIRST_CAP)
    await asyncio.sleep(0.02)
    assert len(server.batches) == FIRST_CAP
    server.open()
    assert await asyncio.gather(*tasks) == [[f"a:{token}"] for token in tokens]


async def test_whoever_gives_up_in_the_line_or_in_flight_makes_room(monkeypatch):
    monkeypatch.setattr(Router, "hear", lambda router, index, crowding: None)
    server = FakeServerHandle("a")
    server.close()
    target = sampler(server)
    tasks = begin(target, *[[token] for token in range(FIRST_CAP + 3)])
    await soon(lambda: len(server.batches) == FIRST_CAP)
    tasks[-2].cancel()
    tasks[0].cancel()
    await soon(lambda: len(server.batches) == FIRST_CAP + 1)
    assert server.batches[-1] == [FIRST_CAP], "the first in line"
    tasks[1].cancel()
    await soon(lambda: len(server.batches) == FIRST_CAP + 2)
    assert server.batches[-1] == [FIRST_CAP + 2], "the second had gone"
    server.open()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    "failure",
    [gone, lambda: raised_there(ServerDied("engine")), lambda: raised_there(UnknownPolicyVersion("3"))],
    ids=["process gone", "engine dead", "not in sync"],
)
async def test_another_server_takes_over_at_once(failure: Callable[[], Exception]):
    dead, alive = FakeServerHandle("dead", *[failure() for _ in range(9)]), FakeServerHandle("alive")
    assert await sampler(dead, alive).sample_batch(ask(1)) == ["alive:1"]
    assert len(dead.calls) == 1, "although the dead server is the less busy one"


async def test_a_version_that_one_server_lacks_is_asked_of_another():
    first, second = FakeServerHandle("first"), FakeServerHandle("second")
    first.errors[1] = UnknownPolicyVersion("policy 3")
    assert await sampler(first, second).sample_batch(ask(1)) == ["second:1"]


async def test_a_server_that_dies_over_many_requests_loses_none():
    dying, alive = FakeServerHandle("dying"), FakeServerHandle("alive")
    dying.close()
    alive.close()
    tasks = begin(sampler(dying, alive), *[[token] for token in range(64)])
    await soon(lambda: len(dying.batches) + len(alive.batches) == 64)
    dying.is_gone = True
    alive.open()
    assert await asyncio.gather(*tasks) == [[f"alive:{token}"] for token in range(64)]
    assert len(dying.batches) == 32


async def test_a_single_server_is_waited_for():
    server = FakeServerHandle("a", gone(), raised_there(ServerDied("not in sync")), gone())
    assert await sampler(server).sample_batch(ask(1)) == ["a:1"]
    assert len(server.calls) == 4


async def test_requests_that_a_server_has_forgotten_are_sent_again(monkeypatch):
    monkeypatch.setattr("cluster.servers.mailbox.POLL_S", 0.01)
    server = FakeServerHandle("a")
    server.slow[1] = asyncio.Event()
    slow, fast = begin(sampler(server), [1], [2])
    assert await fast == ["a:2"]
    server.mailbox = Mailbox(server._sample_batch, lambda: 0.0, 60.0)  # it restarts between two calls
    server.slow.clear()
    assert await asyncio.wait_for(slow, 2) == ["a:1"]
    assert server.batches == [[1], [2], [1]]


@pytest.mark.parametrize(
    ("failure", "error"),
    [(gone, ServerDied), (lambda: raised_there(UnknownPolicyVersion("policy 3")), UnknownPolicyVersion)],
)
async def test_the_deadline_ends_the_retries(failure: Callable[[], Exception], error: type[CroupierError]):
    server = FakeServerHandle("a", *[failure() for _ in range(99)])
    async with asyncio.timeout(3):
        with pytest.raises(error):
            await sampler(server, deadline_s=0.3).sample_batch(ask(1))
    assert len(server.calls) > 1


async def test_an_answer_that_does_not_come_is_named():
    server = FakeServerHandle("a")
    server.close()
    with pytest.raises(DeadlineExceeded, match=r"Waited 0.1 s for 2 response\(s\)"):
        await sampler(server, deadline_s=0.1).sample_batch(ask(1, 2))


@pytest.mark.parametrize(
    "cause",
    [RequestRefused("too long"), DeadlineExceeded("a stuck engine"), ZeroDivisionError("a bug")],
    ids=["refused", "too late", "a bug"],
)
async def test_an_error_that_does_not_pass_is_not_retried_and_fails_its_own_request_alone(cause: Exception):
    server, other = FakeServerHandle("a"), FakeServerHandle("b")
    server.errors[1] = cause
    expected = type(cause) if isinstance(cause, CroupierError) else RayTaskError
    bad, good = begin(sampler(server, other), [1], [2])
    with pytest.raises(expected) as caught:
        await bad
    assert await good == ["b:2"]
    assert server.batches == [[1]] and other.batches == [[2]]
    if expected is not RayTaskError:
        assert caught.value is cause, "Ray's wrapper is taken off"


async def test_a_call_that_cannot_even_be_made_tells_whoever_waits(monkeypatch):
    server = FakeServerHandle("a")

    def remote(*arguments: Any) -> Any:
        raise TypeError("cannot be serialised")

    monkeypatch.setattr(server, "remote", remote)
    with pytest.raises(TypeError, match="cannot be serialised"):
        await sampler(server).sample_batch(ask(1))


async def test_a_call_that_hangs_is_named(monkeypatch):
    monkeypatch.setattr(channel_file, "POLL_S", 0.0)
    server = FakeServerHandle("a")
    monkeypatch.setattr(server, "remote", lambda *arguments: asyncio.sleep(60))
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    Channel(server, "server 7", 0.05, lambda crowding: None).post(ask(1), answer)
    with pytest.raises(DeadlineExceeded, match="Waited 0.05 s for server 7"):
        await answer


async def test_nothing_is_asked_when_nothing_is_owed(monkeypatch):
    monkeypatch.setattr("cluster.servers.mailbox.POLL_S", 0.01)
    server = FakeServerHandle("a")
    calls: list[int] = []

    async def remote(client: str, turn: int, batches: Sequence[Batch]) -> Any:
        calls.append(turn)
        return await FakeServerHandle.remote(server, client, turn, batches)

    monkeypatch.setattr(server, "remote", remote)
    await sampler(server).sample_batch(ask(1))
    await asyncio.sleep(0.05)
    assert calls == [1]


def test_a_sampler_without_servers_is_refused():
    with pytest.raises(ValueError, match="at least one server"):
        sampler()
