"""The server's side of the line to its clients: many requests in, whatever is finished out, in one call.

A client puts all batches of requests that it has at the moment into one `exchange`, which returns soon after any of
its batches, of this call or an earlier one, is finished, with everything that is finished by then: so many calls
become few, and a slow batch delays nobody else's answer. An answer waits for company no longer than `HOLD_SHARE` of
the time that it took itself, and not at all when nothing else runs for its client. Only a client's newest call waits:
an older one returns at once when a newer one comes.

A client that vanishes is forgotten: when it has not called for `forget_after_s`, what still runs for it is cancelled
and its finished answers are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import traceback
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ray.exceptions import RayTaskError

from actors.sampler import Sample, SampleRequest
from protocol.errors import CroupierError

POLL_S = 5.0
"""Longest wait of one `exchange` for news, in seconds."""

HOLD_SHARE = 0.05
"""How long a finished answer may wait for others to travel with it, as a share of the time it took."""

Batch = tuple[int, Sequence[SampleRequest]]
"""Requests that are sampled in one call of the server, and the number under which their client knows them."""

Outcome = list[Sample] | Exception
"""A sample per request in their order, or what the server raised instead."""

SampleBatch = Callable[[Sequence[SampleRequest]], Awaitable[list[Sample]]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What an `exchange` brings home."""

    memory: str
    """Names the server's memory of this client. When it is another than before, the server has restarted or has
    forgotten the client, and owes no answer to what was sent earlier."""
    finished: list[tuple[int, Outcome]]
    """Finished batches by their numbers; each is told once."""
    crowding: float
    """Requests that wait before the engine, as a share of what it can hold."""


@dataclass(slots=True, eq=False)
class _Box:
    """What the server knows of one client. Times are the event loop's, in seconds."""

    memory: str = field(default_factory=lambda: uuid.uuid4().hex)
    turn: int = 0
    """The newest call's."""
    calls: int = 0
    """Calls that wait right now."""
    heard_s: float = 0.0
    """When the last call came or ended."""
    running: set[asyncio.Task[None]] = field(default_factory=set)
    finished: list[tuple[int, Outcome]] = field(default_factory=list)
    leave_s: float = math.inf
    """When `finished` has waited long enough."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, number: int, outcome: Outcome, leave_s: float) -> None:
        """A batch is finished; its outcome may wait until `leave_s`, unless nothing is left to wait for."""
        self.finished.append((number, outcome))
        if leave_s < self.leave_s or not self.running:
            self.leave_s = leave_s if self.running else -math.inf
            self.notify()

    def take(self) -> list[tuple[int, Outcome]]:
        """Everything that is finished."""
        finished, self.finished, self.leave_s = self.finished, [], math.inf
        return finished

    def notify(self) -> None:
        """Make every call that waits look again."""
        self.news.set()
        self.news.clear()

    async def wait(self, turn: int) -> None:
        """Until what is finished should leave, a newer call has come, or `POLL_S` is over."""
        clock = asyncio.get_running_loop().time
        give_up_s = clock() + POLL_S
        while turn == self.turn and clock() < (until_s := min(self.leave_s, give_up_s)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await self.news.wait()


class Mailbox:
    """Takes in requests and hands out answers, for any number of clients; runs in the server's event loop.

    Args:
        sample_batch: Samples one batch; several run side by side.
        crowding: See `Reply.crowding`.
        forget_after_s: Silence after which a client is forgotten, in seconds.
    """

    def __init__(self, sample_batch: SampleBatch, crowding: Callable[[], float], forget_after_s: float) -> None:
        self._sample_batch = sample_batch
        self._crowding = crowding
        self._forget_after_s = forget_after_s
        self._boxes: dict[str, _Box] = {}

    @property
    def clients(self) -> list[str]:
        """Clients that are not forgotten."""
        return list(self._boxes)

    async def exchange(self, client: str, turn: int, batches: Sequence[Batch]) -> Reply:
        """Take in requests and return what is finished; waits up to `POLL_S` for an answer.

        Args:
            client: A name that no other client has.
            turn: Grows from call to call of one client; calls may arrive in another order.
            batches: What to begin. Their numbers are the client's own.
        """
        box = self._boxes.get(client) or self._meet(client)
        for number, requests in batches:
            box.running.add(asyncio.create_task(self._run(box, number, requests)))
        if turn > box.turn:
            box.turn = turn
            box.notify()
        box.calls += 1
        try:
            await box.wait(turn)
        finally:
            box.calls -= 1
            box.heard_s = asyncio.get_running_loop().time()
        return Reply(box.memory, box.take(), self._crowding())

    async def _run(self, box: _Box, number: int, requests: Sequence[SampleRequest]) -> None:
        clock, task = asyncio.get_running_loop().time, asyncio.current_task()
        assert task is not None
        began_s = clock()
        outcome: Outcome
        try:
            outcome = await self._sample_batch(requests)
        except CroupierError as error:
            outcome = error
        except Exception as error:  # travels as it would had it left the server's own method
            outcome = RayTaskError("sample_batch", traceback.format_exc(), error)
        finally:
            box.running.discard(task)
        now_s = clock()
        box.put(number, outcome, now_s + HOLD_SHARE * (now_s - began_s))

    def _meet(self, client: str) -> _Box:
        box = self._boxes[client] = _Box(heard_s=asyncio.get_running_loop().time())
        self._look_after(client, self._forget_after_s)
        return box

    def _look_after(self, client: str, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._forget_if_silent, client)

    def _forget_if_silent(self, client: str) -> None:
        box = self._boxes[client]
        silence_s = 0.0 if box.calls else asyncio.get_running_loop().time() - box.heard_s
        if silence_s < self._forget_after_s:
            self._look_after(client, self._forget_after_s - silence_s)
            return
        del self._boxes[client]
        for task in box.running:
            task.cancel()
