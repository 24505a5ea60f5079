"""Waiting for several things at once, to the end or to the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

from protocol.errors import DeadlineExceeded

Result = TypeVar("Result")


async def before_deadline(awaitable: Awaitable[Result], deadline_s: float, what: str) -> Result:
    """What is waited for, if it comes in time.

    Raises:
        DeadlineExceeded: It does not.
    """
    limit = asyncio.timeout(deadline_s)
    try:
        async with limit:
            return await awaitable
    except TimeoutError as error:
        if not limit.expired():  # the sampler's own, which knows better what it waited for
            raise
        raise DeadlineExceeded(
            f"Waited {deadline_s:g} s for {what}.",
            "look at the inference server's log, or raise servers.request_timeout_s",
        ) from error


async def gather_or_cancel(jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all jobs; the first failure cancels the others, waits for their end and is raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
