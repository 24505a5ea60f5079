"""What a pool of rollout workers needs to run without a model: a scripted server, and environments that leak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from actors.sampler import Sample, SampleRequest
from cluster.servers.mailbox import Batch, Mailbox, Reply
from tests.actors.counting import CountingEnv, CountingSampler, CountingTask, moody

LEAK_BYTES = 2_000_000
"""What every step of a `LeakingEnv` loses."""

_lost: list[bytes] = []


class LeakingEnv(CountingEnv):
    """Loses memory at every step, for as long as its process lives."""

    def __init__(self) -> None:
        super().__init__(limit=7)

    def step(self, action):
        _lost.append(b"\1" * LEAK_BYTES)
        return super().step(action)


class ForgetfulEnv(LeakingEnv):
    """Pays another reward in every process, so that no episode can be repeated in the next one."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float(id(_lost)), *rest


class LeakingTask(CountingTask):
    """The counting task of the first."""

    env_id = f"{__name__}:LeakingEnv"


class ForgetfulTask(CountingTask):
    """The counting task of the second."""

    env_id = f"{__name__}:ForgetfulEnv"


class ScriptedServer:
    """An inference server that answers by the seed of each request."""

    def __init__(self, model: Path) -> None:
        self._sampler = CountingSampler(model, moody)
        self._mailbox = Mailbox(self.sample_batch, lambda: 0.0, forget_after_s=60.0)

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        return await self._sampler.sample_batch(requests)

    async def exchange(self, client: str, turn: int, batches: Sequence[Batch]) -> Reply:
        return await self._mailbox.exchange(client, turn, batches)
