"""The evaluation program: a fixed panel of episodes, played at one temperature, with its interval.

A panel is named by its digest; two evaluations are comparable when the digests agree. Nothing of the training run
(worker count, batch order, seeds of exploration) changes a panel.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cluster.config.env import EnvConfig
from cluster.record.metrics import by_task, episode_metrics, recognition
from protocol.episode import EpisodeResult


@dataclass(frozen=True, slots=True)
class Panel:
    """The episodes of an evaluation."""

    env: EnvConfig
    seed: int
    episodes: int

    def seeds(self) -> list[int]:
        """Reset seeds, distinct, the same for every call."""
        drawn = np.random.default_rng([self.seed, 0x9A7E1]).permutation(2**20)[: self.episodes]
        return [int(s) + 2**30 for s in drawn]

    def digest(self) -> str:
        """SHA-256 over environments, adapters, arguments and reset seeds (hex); how prompts are worded is no part."""
        env = self.env
        played: list[Any] = [env.id, env.adapter, env.kwargs]
        if env.mixture:
            played = [[name, c.id, c.adapter, c.kwargs, c.weight] for name, c in env.mixture.items()]
        key = [*played, self.seeds()]
        return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What `evaluate --json` writes: success with its interval, and the rates beside it."""

    env: str
    episodes: int
    seed: int
    greedy: bool
    temperature: float
    policy_version: int
    panel_digest: str
    success_rate: float
    success_ci95: tuple[float, float]
    """Wilson score interval."""
    mean_return: float
    mean_length: float
    invalid_rate: float
    """Share of steps whose text named no legal action; NaN where no step was made."""
    truncation_rate: float
    env_errors: int
    """Episodes that the environment broke off by an exception; they count as failures."""
    recognition_accuracy: float
    """Share of probed steps whose perception fields were all right; NaN where the task has no probe."""
    per_task: dict[str, dict[str, float]]
    """Sums by task; in a mixture by component, and by the component's own tasks."""
    recognition: dict[str, float] = field(default_factory=dict)
    """For every perception field the share of steps at which it was read right; empty in cards of older runs."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes null."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EvaluationResult:
        """What `to_json` gave, as in the `results` of a run's card."""
        numbers: dict[str, Any] = {k: math.nan if v is None else v for k, v in values.items()}
        numbers["success_ci95"] = tuple(values["success_ci95"])
        return cls(**numbers)

    def __str__(self) -> str:
        low, high = self.success_ci95
        return f"{100 * self.success_rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def evaluate(
    play: Callable[[Sequence[int], float], list[EpisodeResult]], panel: Panel, policy_version: int, temperature: float
) -> EvaluationResult:
    """Play the panel and sum it up.

    Args:
        play: Plays one episode per seed at a temperature (0 is greedy).
        panel: Which episodes.
        policy_version: The version that `play` plays; for the record.
        temperature: 0 for greedy.
    """
    results = play(panel.seeds(), temperature)
    tasks = by_task(results) or {panel.env.label: results}
    return EvaluationResult(
        env=panel.env.label,
        episodes=len(results),
        seed=panel.seed,
        greedy=temperature == 0,
        temperature=temperature,
        policy_version=policy_version,
        panel_digest=panel.digest(),
        success_ci95=wilson_interval(sum(r.success for r in results), len(results)),
        env_errors=sum(r.env_error for r in results),
        per_task={name: _task_row(own) for name, own in tasks.items()},
        recognition=recognition(results),
        **episode_metrics(results),
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson score interval of a success rate (Wilson 1927, without continuity correction)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _task_row(results: Sequence[EpisodeResult]) -> dict[str, float]:
    return {
        "episodes": len(results),
        "success_rate": sum(r.success for r in results) / len(results),
        "mean_return": sum(r.episode_return for r in results) / len(results),
    }
