"""Training runs of the `loop` benchmark: the command line's own, each in a process of its own, timed by its metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.servers.idle import ENGINE_CAUSES, IDLE
from protocol.errors import CroupierError

RECIPE = Path(__file__).parents[1] / "configs" / "local.yaml"
WARM_UP_UPDATES = 2
"""Updates that are not counted: caches fill, and the first rollout begins with empty engines."""

_DEADLINE_S = 900.0


class RunFailed(CroupierError, RuntimeError):
    """A training run of a benchmark did not end well."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a loop went, end to end."""

    steps_per_s: float
    """Environment steps."""
    tokens_per_s: float
    """Sampled."""
    learner_idle: float
    """Share of the time without an update."""
    engine_idle: float = 0.0
    """Share of the time without a request."""
    engine_idle_by: Mapping[str, float] = field(default_factory=dict)
    """The same, by cause."""


def fine_tuned_model(folder: Path, quick: bool) -> Path:
    """The recipe's model after its supervised stage."""
    _run("sft", folder, "base", ["sft.steps=10", "sft.demonstrations.steps=200"] if quick else [])
    return folder / "base" / "model"


def train_speed(model: Path, folder: Path, updates: int, max_staleness: int, quick: bool) -> Speed:
    """Train with RL alone and see how fast it went.

    Raises:
        RunFailed: With the run's last words.
    """
    overrides = [
        f"model.path={model}",
        "sft=null",
        "evaluation=null",
        "deterministic=false",
        f"learner.max_staleness={max_staleness}",
        f"rollout.updates={updates}",
        "tracking.tensorboard=false",
        f"checkpoints.every_updates={updates}",
    ]
    if quick:
        overrides += ["servers.kind=transformers", "rollout.steps_per_update=64", "workers.envs_per_worker=16"]
    _run("train", folder, "run", overrides)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[min(WARM_UP_UPDATES, updates - 1) :]]
    took_s = sum(row["time/iteration_s"] for row in rows)

    def share(name: str) -> float:
        return sum((row[name] or 0.0) * row["time/iteration_s"] for row in rows) / took_s

    return Speed(
        sum(row["rollout/env_steps"] for row in rows) / took_s,
        sum(row["rollout/sampled_tokens"] for row in rows) / took_s,
        share("idle/learner"),
        share(IDLE),
        {cause: share(f"{IDLE}/{cause}") for cause in ENGINE_CAUSES},
    )


def _run(command: str, folder: Path, name: str, overrides: list[str]) -> None:
    words = [sys.executable, "-m", "cluster", command, str(RECIPE), f"runs_dir={folder}", f"name={name}", *overrides]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"{' '.join(words)} took more than {_DEADLINE_S:g} s.", "run it by hand") from error
    if done.returncode:
        raise RunFailed(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}", "run it by hand")
