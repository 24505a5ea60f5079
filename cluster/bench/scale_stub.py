"""The engine of the `scale` benchmark. Apart from what measures, so that workers need not import that to talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from actors.sampler import Sample, SampleRequest
from actors.scripted import ScriptedSampler
from actors.vocabulary import Vocabulary
from cluster.servers.mailbox import Batch, Mailbox, Reply

DEADLINE_S = 300.0
"""Longest wait for anything in this benchmark, in seconds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one measurement."""

    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    slots: int = 8
    latency_s: float = 2.0
    """Of every response."""
    capacity: int = 256
    """Responses that the engine makes at a time; more wait."""
    batches: int = 4
    """Counted, after one that is not."""


class StubServer:
    """An inference server that knows one answer and takes its time. Named as what it is: no engine, no model."""

    def __init__(self, model: str, plan: Plan) -> None:
        self._sampler = ScriptedSampler(lambda request: '{"action": "+"}', Vocabulary.from_folder(model))
        self._latency_s = plan.latency_s
        self._places = asyncio.Semaphore(plan.capacity)
        self._mailbox = Mailbox(self.sample_batch, lambda: 0.0, DEADLINE_S)

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Answers after the latency, each request in a place of its own."""
        return list(await asyncio.gather(*map(self._sample, requests)))

    async def exchange(self, client: str, turn: int, batches: Sequence[Batch]) -> Reply:
        """See `Mailbox.exchange`."""
        return await self._mailbox.exchange(client, turn, batches)

    async def _sample(self, request: SampleRequest) -> Sample:
        async with self._places:
            await asyncio.sleep(self._latency_s)
        return await self._sampler.sample(request)
