"""Configuration of a run's processes: learner, inference servers, rollout workers, and the Ray they live in."""

from __future__ import annotations

from pydantic import Field

from actors.config import ServerConfig
from cluster.config.part import Part
from learner.config import LearnerConfig


class WorkersConfig(Part):
    """Rollout workers: CPU processes that step environments."""

    count: int = Field(default=2, ge=1)
    """Worker processes."""
    envs_per_worker: int = Field(default=32, ge=1)
    """Environments that a worker steps concurrently."""
    cpus_per_worker: float = Field(default=1.0, ge=0.0)
    """CPU share that Ray reserves for a worker (in local mode only a label)."""
    max_restarts: int = Field(default=3, ge=0)
    """How often each worker may be restarted before the run fails."""
    max_memory_mb: int | None = Field(default=2048, ge=1)
    """A worker that takes more after a rollout, in MB (10^6 bytes), is started anew and goes on where it was:
    environments may leak. That is not counted as a restart. None: no limit."""
    rollout_timeout_s: float = Field(default=3600.0, gt=0.0)
    """Longest wait for one rollout or one evaluation panel, in seconds."""


class ServersConfig(ServerConfig):
    """Inference servers: how many, and how each is built."""

    count: int = Field(default=1, ge=1)
    """Server processes."""
    gpus: float = Field(default=0.0, ge=0.0, le=1.0)
    """GPUs of one tensor-parallel rank; below 1 shares a card (with the learner, in one-GPU mode), 0 is CPU."""
    max_restarts: int = Field(default=2, ge=0)
    """How often each server may be restarted before the run fails."""

    @property
    def patience_s(self) -> float:
        """How long a worker waits for a response: a server may be rebuilt meanwhile."""
        return self.start_timeout_s + self.request_timeout_s


class LearnerPartConfig(LearnerConfig):
    """The learner, and what it runs on."""

    count: int = Field(default=1, ge=1)
    """Learner processes that train one policy together, each on its share of every minibatch (docs/scaling.md)."""
    gpus: float = Field(default=0.0, ge=0.0)
    """GPUs of each learner; below 1 shares a card, 0 is CPU."""
    collective_timeout_s: float = Field(default=600.0, gt=0.0)
    """Longest wait of one of several learners for the others in one operation, in seconds."""
    update_timeout_s: float = Field(default=3600.0, gt=0.0)
    """Longest wait for one update or one stage of the learner, in seconds."""


class RayConfig(Part):
    """Where Ray is."""

    address: str = "auto"
    """`auto`: the cluster that RAY_ADDRESS names or that a job runs in, else a private local one; `local`: always a
    private local one; anything else is a cluster address."""
    start_timeout_s: float = Field(default=120.0, gt=0.0)
    """How long placing the processes may take, in seconds."""
