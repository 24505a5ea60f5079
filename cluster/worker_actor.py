"""A rollout worker as a Ray actor: builds the plain worker of `actors/` in its own process and forwards to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from actors.prompting import ImageSize, PromptEncoder
from actors.worker import RolloutReport, RolloutWorker
from cluster.config import EnvConfig
from cluster.model_stage import env_maker
from cluster.ray_sampler import RaySampler
from protocol.codec import TrajectoryBatch
from protocol.episode import EpisodeResult


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker is built from, in plain values."""

    run_id: str
    model: str
    env: EnvConfig
    image_tokens: dict[ImageSize, int]
    slots: int
    max_tokens: int
    seed: int
    deterministic: bool
    sample_deadline_s: float


class WorkerActor:
    """Wraps one `RolloutWorker`."""

    def __init__(self, spec: WorkerSpec, worker_id: str, server_names: Sequence[str]) -> None:
        self._spec = spec
        self._name = worker_id
        self._server_names = tuple(server_names)
        # Ray starts a crashed actor again under the same arguments; its rows must not repeat the names of lost ones.
        context = ray.get_runtime_context()
        suffix = f"r{context.get_worker_id()[:8]}" if context.was_current_actor_reconstructed else ""
        self._worker = self._build(suffix)

    def _build(self, suffix: str) -> RolloutWorker:
        spec = self._spec
        servers = [ray.get_actor(name) for name in self._server_names]
        return RolloutWorker(
            run_id=spec.run_id,
            worker_id=self._name + suffix,
            make_env=env_maker(spec.env),
            encoder=PromptEncoder(spec.model, spec.image_tokens),
            sampler=RaySampler(servers, deadline_s=spec.sample_deadline_s),
            slots=spec.slots,
            max_tokens=spec.max_tokens,
            seed=spec.seed,
            deterministic=spec.deterministic,
            sample_deadline_s=spec.sample_deadline_s,
        )

    async def ping(self) -> str:
        """Name of the worker, once it is built."""
        return self._worker.worker_id

    async def collect(
        self, num_steps: int, policy_version: int, temperature: float
    ) -> tuple[TrajectoryBatch, RolloutReport, dict[str, Any]]:
        """See `RolloutWorker.collect`; the state to resume from comes third."""
        batch, report = await self._worker.collect(num_steps, policy_version, temperature)
        return batch, report, self._worker.state_dict()

    async def run_episodes(self, seeds: Sequence[int], policy_version: int, temperature: float) -> list[EpisodeResult]:
        """See `RolloutWorker.run_episodes`."""
        return await self._worker.run_episodes(seeds, policy_version, temperature)

    async def renew(self, suffix: str) -> None:
        """Begin anew under another name, so that no row repeats the name of one that was trained on before."""
        self._worker.close()
        self._worker = self._build(suffix)

    async def load_state_dict(self, saved: dict[str, Any]) -> None:
        """See `RolloutWorker.load_state_dict`."""
        self._worker.load_state_dict(saved)
