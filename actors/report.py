"""What a rollout amounted to, beside its rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from protocol.episode import EpisodeResult
from protocol.trajectory import Step


@dataclass(frozen=True, slots=True, eq=False)
class RolloutReport:
    """Numbers of one rollout of one worker: small enough to pass through the driver."""

    worker_id: str
    env_steps: int
    sampled_tokens: int
    wall_s: float
    env_s: float
    """Summed over slots: time in `env.step`."""
    sample_s: float
    """Summed over slots: time waiting for the sampler."""
    invalid_steps: int
    env_errors: int
    episodes: tuple[EpisodeResult, ...]
    rss_bytes: int = 0
    """Resident memory of the worker's own after the rollout; filled in by the process it lives in."""
    idle_s: float = 0.0
    """Seconds in which no slot was at work, because no step was allowed to begin."""


@dataclass(slots=True)
class RolloutTally:
    """Counts while a rollout goes on.

    Args:
        env_errors_before: Errors that the worker's environments had raised when it began.
    """

    env_errors_before: int = 0
    began_s: float = field(default_factory=time.perf_counter)
    tokens: int = 0
    sample_s: float = 0.0
    idle_s: float = 0.0
    episodes: list[EpisodeResult] = field(default_factory=list)

    def report(self, worker_id: str, rows: Sequence[Step], env_errors: int) -> RolloutReport:
        """The numbers so far, with those of the rows; `env_errors` are the worker's of all time."""
        return RolloutReport(
            worker_id=worker_id,
            env_steps=len(rows),
            sampled_tokens=self.tokens,
            wall_s=time.perf_counter() - self.began_s,
            env_s=sum(r.env_s for r in rows),
            sample_s=self.sample_s,
            invalid_steps=sum(not r.legal for r in rows),
            env_errors=env_errors - self.env_errors_before,
            episodes=tuple(self.episodes),
            idle_s=self.idle_s,
        )
