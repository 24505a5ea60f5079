"""The client's side of the line to one inference server: requests of one moment leave in one call.

The other side is `Mailbox`. A channel has one call out for as long as answers are owed to it, and a second one only
while the first returns because the second came.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from ray.exceptions import RayActorError, RayTaskError

from actors.sampler import Sample, SampleRequest
from cluster.servers.mailbox import POLL_S, Reply
from protocol.errors import CroupierError, DeadlineExceeded, ServerDied

LINGER_S = 0.005
"""Longest time that a request waits for others of the same turn of the event loop, in seconds: where environments are
stepped in that turn, the first requests leave while the last environments are still being stepped."""


class Channel:
    """Carries batches of requests to one server and their answers back.

    Args:
        server: Handle of a `ServerActor`.
        name: Of the server, for errors.
        deadline_s: How long a call may take beyond the server's own wait, in seconds.
        hear: Is told the server's crowding with every reply.
    """

    def __init__(self, server: Any, name: str, deadline_s: float, hear: Callable[[float], None]) -> None:
        self._server = server
        self._name = name
        self._timeout_s = POLL_S + deadline_s
        self._hear = hear
        self._client = uuid.uuid4().hex
        self._memory: str | None = None
        self._turn = 0
        self._next_number = 0
        self._outbox: list[tuple[int, list[SampleRequest]]] = []
        self._oldest_s = 0.0
        self._owed: dict[int, asyncio.Future[list[Sample]]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def post(self, requests: Sequence[SampleRequest], answer: asyncio.Future[list[Sample]]) -> None:
        """Send a batch, which the server samples in one call; `answer` gets the samples or the server's error.

        `answer` fails with `ServerDied` when the server is gone or has lost the batch. If it is cancelled before the
        batch has left, the batch does not leave.
        """
        loop = asyncio.get_running_loop()
        number, self._next_number = self._next_number, self._next_number + 1
        self._owed[number] = answer
        answer.add_done_callback(lambda _: self._owed.pop(number, None))
        self._outbox.append((number, list(requests)))
        if len(self._outbox) == 1:
            self._oldest_s = loop.time()
            loop.call_soon(self._leave)
        elif loop.time() - self._oldest_s > LINGER_S:
            self._leave()

    def _leave(self) -> None:
        if self._outbox:
            self._exchange()

    def _exchange(self) -> None:
        """Call the server with what waits, if it owes anything."""
        batches = [(number, requests) for number, requests in self._outbox if number in self._owed]
        self._outbox.clear()
        if not self._owed:
            return
        if batches and batches[0][1]:
            _note_wait(batches[0][1], asyncio.get_running_loop().time() - self._oldest_s)
        self._turn += 1
        first = batches[0][0] if batches else self._next_number
        try:  # here and not in the task, so that the call leaves even if the loop is kept busy from now on
            reply = self._server.exchange.remote(self._client, self._turn, batches)
        except Exception as error:  # nothing was sent; whoever waits is to know why
            self._fail(self._next_number, error)
            return
        call = asyncio.create_task(self._await(reply, self._turn, first, self._next_number))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _await(self, call: Awaitable[Reply], turn: int, first: int, end: int) -> None:
        """See one call through; it carried the batches from `first` on, and all before `end` rest on it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await call
        except Exception as error:
            self._fail(end, self._meaning(error))
        else:
            self._take(reply, first)
        # Who just got an answer asks the next thing within two turns of the loop: one call then carries both.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if turn == self._turn:
            self._exchange()

    def _take(self, reply: Reply, first: int) -> None:
        if self._memory not in (None, reply.memory):
            self._fail(first, ServerDied(f"{self._name} restarted and lost requests.", "try again shortly"))
        self._memory = reply.memory
        self._hear(reply.crowding)
        for number, outcome in reply.finished:
            answer = self._owed.pop(number, None)
            if answer is None or answer.done():
                continue  # nobody waits any more
            if isinstance(outcome, Exception):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    def _fail(self, end: int, error: Exception) -> None:
        for number in [number for number in self._owed if number < end]:
            answer = self._owed.pop(number)
            if not answer.done():
                answer.set_exception(error)

    def _meaning(self, error: Exception) -> Exception:
        """What the failure of a call says about the server."""
        if isinstance(error, RayTaskError) and isinstance(error.cause, CroupierError):
            return error.cause
        if isinstance(error, RayActorError):
            return ServerDied(f"The process of {self._name} is gone: {error}", "look at its log under the Ray session")
        if isinstance(error, TimeoutError):
            return DeadlineExceeded(
                f"Waited {self._timeout_s:g} s for {self._name} to take requests.", "look at the server's log"
            )
        return error


def _note_wait(requests: list[SampleRequest], seconds: float) -> None:
    """The first batch of a call waited for the others: it is the one that may end an engine's idle time, and its last
    request tells of what was before."""
    last = requests[-1]
    requests[-1] = replace(last, delays=last.delays.kept(seconds))
