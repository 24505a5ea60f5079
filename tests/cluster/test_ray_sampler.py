"""The workers' sampler: spreads requests, and sends those of a dead server to another, or waits for the same one."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from cluster.ray_sampler import RaySampler
from protocol.errors import CroupierError, RequestRefused, ServerDied, UnknownPolicyVersion


class FakeServerHandle:
    """Looks like a handle of a `ServerActor`: answers with its own name, after failing as often as told."""

    def __init__(self, name: str, *failures: Exception) -> None:
        self.name = name
        self.failures = list(failures)
        self.calls: list[Sequence[Any]] = []
        self.gate: asyncio.Event | None = None
        """While it is closed, calls stay in flight."""

    @property
    def sample_batch(self) -> "FakeServerHandle":
        return self

    async def remote(self, requests: Sequence[Any]) -> list[Any]:
        self.calls.append(requests)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [f"{self.name}:{request}" for request in requests]


def gone() -> Exception:
    return ActorUnavailableError("the process is restarting", actor_id=b"0" * 16)


def raised_there(error: Exception) -> Exception:
    """An exception of the method itself, as Ray brings it home."""
    return RayTaskError("sample_batch", "a remote traceback", error)


def sampler(*handles: FakeServerHandle, deadline_s: float = 5.0) -> RaySampler:
    return RaySampler(handles, deadline_s)


async def test_answers_come_back_in_the_order_of_the_requests():
    server = FakeServerHandle("a")
    assert await sampler(server).sample_batch(["x", "y"]) == ["a:x", "a:y"]  # type: ignore[list-item]
    assert await sampler(server).sample("z") == "a:z"  # type: ignore[arg-type]
    assert server.calls == [["x", "y"], ["z"]], "a batch is one call"


async def test_requests_go_to_the_least_busy_server():
    servers = [FakeServerHandle(name) for name in "abc"]
    for server in servers:
        server.gate = asyncio.Event()
    target = sampler(*servers)
    batches = [list("123456789"), ["4"], ["5", "6"], ["7", "8"], ["9"]]
    tasks = [asyncio.create_task(target.sample_batch(batch)) for batch in batches]  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert [server.calls for server in servers] == [[batches[0]], [batches[1], batches[3]], [batches[2], batches[4]]]
    for server in servers:
        assert server.gate is not None
        server.gate.set()
    await asyncio.gather(*tasks)
    await target.sample("x")  # type: ignore[arg-type]
    assert servers[0].calls[-1] == ["x"], "nothing counts as in flight once it is answered"


@pytest.mark.parametrize(
    "failure",
    [gone, lambda: raised_there(ServerDied("engine")), lambda: raised_there(UnknownPolicyVersion("3"))],
    ids=["process gone", "engine dead", "not in sync"],
)
async def test_another_server_takes_over_at_once(failure: Callable[[], Exception]):
    dead, alive = FakeServerHandle("dead", *[failure() for _ in range(9)]), FakeServerHandle("alive")
    assert await sampler(dead, alive).sample("x") == "alive:x"  # type: ignore[arg-type]
    assert len(dead.calls) == 1, "although the dead server is the less busy one"


async def test_a_single_server_is_waited_for():
    server = FakeServerHandle("a", gone(), raised_there(ServerDied("not in sync")), gone())
    assert await sampler(server).sample("x") == "a:x"  # type: ignore[arg-type]
    assert len(server.calls) == 4


@pytest.mark.parametrize(
    ("failure", "error"),
    [(gone, ServerDied), (lambda: raised_there(UnknownPolicyVersion("policy 3")), UnknownPolicyVersion)],
)
async def test_the_deadline_ends_the_retries(failure: Callable[[], Exception], error: type[CroupierError]):
    server = FakeServerHandle("a", *[failure() for _ in range(99)])
    async with asyncio.timeout(3):
        with pytest.raises(error):
            await sampler(server, deadline_s=0.3).sample("x")  # type: ignore[arg-type]
    assert len(server.calls) > 1


@pytest.mark.parametrize("cause", [RequestRefused("too long"), ZeroDivisionError("a bug")], ids=["refused", "a bug"])
async def test_what_does_not_pass_is_not_retried(cause: Exception):
    server = FakeServerHandle("a", raised_there(cause))
    expected = RequestRefused if isinstance(cause, RequestRefused) else RayTaskError
    with pytest.raises(expected) as caught:
        await sampler(server, FakeServerHandle("b")).sample("x")  # type: ignore[arg-type]
    assert len(server.calls) == 1
    if expected is RequestRefused:
        assert caught.value is cause, "Ray's wrapper is taken off"


def test_a_sampler_without_servers_is_refused():
    with pytest.raises(ValueError, match="at least one server"):
        sampler()
