"""The sampler that workers use: sends requests to the least busy of several inference servers, over Ray.

The only place where a request is retried: a server that died is left to its supervisor, and the request goes to
another server, or waits until the same one is back in sync.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from actors.sampler import Sample, SampleRequest
from protocol.errors import CroupierError, ServerDied, UnknownPolicyVersion

RETRIED = (ServerDied, UnknownPolicyVersion)
"""Failures that pass: the server is being restarted, or has not been given its adapters again yet."""


class RaySampler:
    """A `Sampler` over Ray actors.

    Args:
        servers: Handles of `ServerActor`s that all hold the same policy versions.
        deadline_s: How long one request may be retried, in seconds.
    """

    def __init__(self, servers: Sequence[Any], deadline_s: float) -> None:
        if not servers:
            raise ValueError("A sampler needs at least one server.")
        self._servers = list(servers)
        self._in_flight = [0] * len(self._servers)
        self._deadline_s = deadline_s

    async def sample(self, request: SampleRequest) -> Sample:
        """See `Sampler.sample`."""
        return (await self.sample_batch([request]))[0]

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Send all requests to one server.

        Raises:
            ServerDied, UnknownPolicyVersion: No server could answer within the deadline.
            RequestRefused: The server found a request malformed; not retried.
        """
        failed: set[int] = set()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(RETRIED),
            stop=stop_after_delay(self._deadline_s),
            wait=wait_exponential(multiplier=0.1, max=2.0),
            reraise=True,
        ):
            with attempt:
                index = self._choose(failed)
                failed.add(index)
                return await self._send(index, requests)
        raise AssertionError("unreachable: the last attempt raises")

    def _choose(self, failed: set[int]) -> int:
        """The least busy server that has not failed on this request; a dead one would always be the least busy."""
        if len(failed) == len(self._servers):
            failed.clear()
        fresh = [index for index in range(len(self._servers)) if index not in failed]
        return min(fresh, key=self._in_flight.__getitem__)

    async def _send(self, index: int, requests: Sequence[SampleRequest]) -> list[Sample]:
        self._in_flight[index] += len(requests)
        try:
            return await self._servers[index].sample_batch.remote(requests)
        except RayTaskError as error:
            if isinstance(error.cause, CroupierError):
                raise error.cause from error
            raise
        except RayActorError as error:
            raise ServerDied(
                f"The process of inference server {index} is gone: {error}", "look at its log under the Ray session"
            ) from error
        finally:
            self._in_flight[index] -= len(requests)
