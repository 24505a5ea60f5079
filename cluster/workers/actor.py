"""A rollout worker as a Ray actor: builds the plain worker of `actors/` in its own process and forwards to it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from actors.prompting import ImageSize, PromptEncoder
from actors.report import RolloutReport
from actors.rewards import RewardWeights
from actors.streaming import StreamingWorker
from cluster.config.env import EnvConfig
from cluster.servers.ray_sampler import RaySampler
from cluster.stages.model import env_maker
from cluster.workers.memory import own_memory_bytes
from protocol.codec import TrajectoryBatch
from protocol.episode import EpisodeResult

_log = logging.getLogger(__name__)


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
    rewards: RewardWeights = RewardWeights()
    evaluated_env: EnvConfig | None = None
    """What `run_episodes` plays; None: `env`."""
    carry_episodes: bool = False
    """See `StreamingWorker`."""
    name: str = "worker"
    """What the workers' names begin with: those of one run's stages must differ, for rows are told apart by them."""


class WorkerActor:
    """Wraps one `StreamingWorker`."""

    def __init__(self, spec: WorkerSpec, worker_id: str, server_names: Sequence[str]) -> None:
        self._spec = spec
        self._name = worker_id
        self._server_names = tuple(server_names)
        # Ray starts a crashed actor again under the same arguments; its rows must not repeat the names of lost ones.
        rebuilt = ray.get_runtime_context().was_current_actor_reconstructed
        self._worker = self._build(worker_id + _process_suffix() if rebuilt else worker_id)

    def _build(self, worker_id: str) -> StreamingWorker:
        spec = self._spec
        servers = [ray.get_actor(name) for name in self._server_names]
        return StreamingWorker(
            run_id=spec.run_id,
            worker_id=worker_id,
            make_env=env_maker(spec.env),
            make_evaluated_env=env_maker(spec.evaluated_env or spec.env),
            encoder=PromptEncoder(spec.model, spec.image_tokens),
            sampler=RaySampler(servers, deadline_s=spec.sample_deadline_s),
            slots=spec.slots,
            max_tokens=spec.max_tokens,
            seed=spec.seed,
            deterministic=spec.deterministic,
            sample_deadline_s=spec.sample_deadline_s,
            rewards=spec.rewards,
            carry_episodes=spec.carry_episodes,
        )

    async def ping(self) -> str:
        """Name of the worker, once it is built."""
        return self._worker.worker_id

    async def memory_bytes(self) -> int:
        """See `own_memory_bytes`; answered once the worker is built."""
        return own_memory_bytes()

    async def collect(
        self, num_steps: int, policy_version: int, temperature: float
    ) -> tuple[TrajectoryBatch, RolloutReport, dict[str, Any]]:
        """See `RolloutWorker.collect`; the state to resume from comes third."""
        batch, report = await self._worker.collect(num_steps, policy_version, temperature)
        return batch, _with_memory(report), self._state_dict()

    async def stream(
        self, num_steps: int, policy_version: int, temperature: float
    ) -> tuple[TrajectoryBatch, RolloutReport]:
        """See `StreamingWorker.stream`."""
        batch, report = await self._worker.stream(num_steps, policy_version, temperature)
        return batch, _with_memory(report)

    async def stream_episodes(
        self, seeds: Sequence[int], policy_version: int, temperature: float
    ) -> tuple[TrajectoryBatch, RolloutReport]:
        """See `StreamingWorker.stream_episodes`."""
        batch, report = await self._worker.stream_episodes(seeds, policy_version, temperature)
        return batch, _with_memory(report)

    async def advance_to(self, policy_version: int) -> None:
        """Name this version in the requests of streams from now on: every server has acknowledged it."""
        self._worker.advance_to(policy_version)

    async def state_dict(self) -> dict[str, Any]:
        """The state to resume from, between two rollouts."""
        return self._state_dict()

    async def collect_episodes(
        self, seeds: Sequence[int], policy_version: int, temperature: float
    ) -> tuple[TrajectoryBatch, RolloutReport, dict[str, Any]]:
        """See `RolloutWorker.collect_episodes`; the state to resume from comes third."""
        batch, report = await self._worker.collect_episodes(seeds, policy_version, temperature)
        return batch, _with_memory(report), self._state_dict()

    async def run_episodes(self, seeds: Sequence[int], policy_version: int, temperature: float) -> list[EpisodeResult]:
        """See `RolloutWorker.run_episodes`."""
        return await self._worker.run_episodes(seeds, policy_version, temperature)

    async def renew(self, suffix: str) -> None:
        """Begin anew under another name, so that no row repeats the name of one that was trained on before."""
        self._rename(self._name + suffix)

    async def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on as the worker that `saved` is the state of, under its name; see `RolloutWorker.load_state_dict`."""
        self._load(saved)

    async def take_over(self, saved: dict[str, Any]) -> int:
        """Go on for a worker whose process was ended on purpose, as if it had lived on.

        Where the environment does not repeat its episodes, fresh ones begin under another name, as after a crash.

        Returns:
            Memory taken afterwards, in bytes.
        """
        try:
            self._load(saved)
        except Exception:  # a user's environment may raise anything; what it cannot repeat is given up
            _log.warning("%s cannot repeat its open episodes and begins new ones", self._name, exc_info=True)
            self._rename(self._name + _process_suffix())
        return own_memory_bytes()

    def _state_dict(self) -> dict[str, Any]:
        return {"worker_id": self._worker.worker_id, **self._worker.state_dict()}

    def _load(self, saved: dict[str, Any]) -> None:
        # A successor of a crashed worker has a name of its own, and its seed and episode numbers belong to that name.
        if saved["worker_id"] != self._worker.worker_id:
            self._rename(saved["worker_id"])
        self._worker.load_state_dict(saved)

    def _rename(self, worker_id: str) -> None:
        self._worker.close()
        self._worker = self._build(worker_id)


def _with_memory(report: RolloutReport) -> RolloutReport:
    return replace(report, rss_bytes=own_memory_bytes())


def _process_suffix() -> str:
    """Ending of a name that no other process of the run has."""
    return f"r{ray.get_runtime_context().get_worker_id()[:8]}"
