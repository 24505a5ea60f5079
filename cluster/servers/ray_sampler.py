"""The sampler that workers use: sends requests to the least busy of several inference servers, over Ray.

The only place where a request is retried: a server that died is left to its supervisor, and the request goes to
another server, or waits until the same one is back in sync.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from actors.sampler import Sample, SampleRequest
from cluster.servers.channel import Channel
from cluster.servers.routing import Router
from protocol.errors import DeadlineExceeded, ServerDied, UnknownPolicyVersion

RETRIED = (ServerDied, UnknownPolicyVersion)
"""Failures that pass: the server is being restarted, or has not been given its adapters again yet."""

PREFIX_TOKENS = 64
"""Requests that agree in their images and in so many first tokens count as beginning alike."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A batch that has no server yet."""

    requests: Sequence[SampleRequest]
    failed: set[int]
    """Servers that failed on it; the one that gets it next is added, so that no retry goes there first."""
    answer: asyncio.Future[list[Sample]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class RaySampler:
    """A `Sampler` over Ray actors.

    Requests that are made in the same turn of the event loop go to a server in one call. One `sample_batch` stays one
    batch there: the server draws it in one call of its own.

    Args:
        servers: Handles of `ServerActor`s that all hold the same policy versions.
        deadline_s: How long one request may be retried, and how long one try may take, in seconds.
    """

    def __init__(self, servers: Sequence[Any], deadline_s: float) -> None:
        self._router = Router(len(servers))
        self._channels = [
            Channel(server, f"inference server {index}", deadline_s, partial(self._router.hear, index))
            for index, server in enumerate(servers)
        ]
        self._line: deque[_Waiting] = deque()
        self._deadline_s = deadline_s

    async def sample(self, request: SampleRequest) -> Sample:
        """See `Sampler.sample`."""
        return (await self.sample_batch([request]))[0]

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Send all requests to one server.

        Raises:
            ServerDied, UnknownPolicyVersion: No server could answer within the deadline.
            RequestRefused: The server found a request malformed; not retried.
            DeadlineExceeded: No answer within the deadline.
        """
        failed: set[int] = set()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(RETRIED),
            stop=stop_after_delay(self._deadline_s),
            wait=wait_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        ):
            with attempt:
                return await self._try_once(requests, failed)
        raise AssertionError("unreachable: the last attempt raises")

    async def _try_once(self, requests: Sequence[SampleRequest], failed: set[int]) -> list[Sample]:
        if len(failed) == len(self._channels):
            failed.clear()
        waiting = _Waiting(requests, failed)
        self._line.append(waiting)
        self._serve_line()
        try:
            async with asyncio.timeout(self._deadline_s):
                return await waiting.answer
        except TimeoutError as error:
            if not waiting.answer.cancelled():  # the server's own, which knows better what it waited for
                raise
            raise DeadlineExceeded(
                f"Waited {self._deadline_s:g} s for {len(requests)} response(s) of an inference server.",
                "look at the servers' logs, or raise servers.request_timeout_s",
            ) from error

    def _serve_line(self) -> None:
        """Send off what has waited longest, for as long as a server has room. Nothing overtakes: it might for ever."""
        while self._line:
            waiting = self._line[0]
            if not waiting.answer.done():
                size = len(waiting.requests)
                index = self._router.place(size, _prefix_of(waiting.requests), waiting.failed)
                if index is None:
                    return
                waiting.failed.add(index)
                waiting.answer.add_done_callback(partial(self._make_room, index, size))
                self._channels[index].post(waiting.requests, waiting.answer)
            self._line.popleft()

    def _make_room(self, index: int, size: int, _: asyncio.Future[list[Sample]]) -> None:
        self._router.release(index, size)
        self._serve_line()


def _prefix_of(requests: Sequence[SampleRequest]) -> int:
    """Equal for batches whose first requests begin alike."""
    return hash(
        tuple((request.image_digests, tuple(request.prompt_token_ids[:PREFIX_TOKENS])) for request in requests[:1])
    )
