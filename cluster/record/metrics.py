"""Scalars of a run to disk: metrics.jsonl always, TensorBoard events beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from actors.report import RolloutReport
from cluster.record.run_dir import RunDir
from cluster.workers.memory import MB
from protocol.episode import EpisodeResult


class MetricsWriter:
    """Appends one row per update; a resumed run goes on in the same files.

    Args:
        run: Where to write.
        tensorboard: Also write TensorBoard events.
        resume_at: Rows of updates beyond this one are dropped first (they belong to a lost continuation).
        stage: Name of the stage that the rows are told to belong to, where stages have names.
    """

    def __init__(
        self, run: RunDir, *, tensorboard: bool, resume_at: int | None = None, stage: str | None = None
    ) -> None:
        self._stage = {} if stage is None else {"stage": stage}
        if resume_at is not None:
            _drop_rows_after(run.metrics, resume_at)
        self._file = run.metrics.open("a", buffering=1)
        self._events = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(run.tensorboard), purge_step=None if resume_at is None else resume_at + 1)

    def write(self, update: int, values: Mapping[str, float]) -> None:
        """Write one row; NaN (nothing to report) becomes null."""
        finite = {k: (v if math.isfinite(v) else None) for k, v in values.items()}
        self._file.write(json.dumps({"update": update, **self._stage, **finite}) + "\n")
        if self._events is not None:
            for key, value in finite.items():
                if value is not None:
                    self._events.add_scalar(key, value, update)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def episode_metrics(episodes: Sequence[EpisodeResult]) -> dict[str, float]:
    """Success, return, length and invalid rate of finished episodes; NaN where none finished."""
    steps = sum(e.length_steps for e in episodes)
    probes = sum(e.recognition_steps for e in episodes)
    count = len(episodes)

    def mean(total: float, over: int) -> float:
        return total / over if over else math.nan

    return {
        "success_rate": mean(sum(e.success for e in episodes), count),
        "mean_return": mean(sum(e.episode_return for e in episodes), count),
        "mean_length": mean(steps, count),
        "invalid_rate": mean(sum(e.invalid_steps for e in episodes), steps),
        "truncation_rate": mean(sum(e.truncated for e in episodes), count),
        "recognition_accuracy": mean(sum(e.recognized_steps for e in episodes), probes),
    }


def recognition(episodes: Sequence[EpisodeResult]) -> dict[str, float]:
    """For every perception field the share of steps at which it was read right."""
    names = sorted({name for e in episodes for name in e.recognition})
    sums = {name: [e.recognition[name] for e in episodes if name in e.recognition] for name in names}
    return {name: sum(right for right, _ in own) / sum(probed for _, probed in own) for name, own in sums.items()}


def by_task(episodes: Sequence[EpisodeResult]) -> dict[str, list[EpisodeResult]]:
    """Episodes of every task that has a name; "house/heat" counts for the component "house" as well."""
    groups: dict[str, list[EpisodeResult]] = {}
    for episode in episodes:
        parts = episode.task.split("/") if episode.task else []
        for end in range(1, len(parts) + 1):
            groups.setdefault("/".join(parts[:end]), []).append(episode)
    return dict(sorted(groups.items()))


def rollout_metrics(reports: Sequence[RolloutReport], wall_s: float) -> dict[str, float]:
    """Metrics of one rollout over all workers; `wall_s` is how long the driver waited for it, in seconds."""
    episodes = [e for report in reports for e in report.episodes]
    steps = sum(r.env_steps for r in reports)
    values = {f"rollout/{k}": v for k, v in episode_metrics(episodes).items()}
    # The invalid rate counts every sampled step, also those of episodes that are still open.
    values["rollout/invalid_rate"] = sum(r.invalid_steps for r in reports) / max(1, steps)
    values |= {f"rollout/recognition/{name}": share for name, share in recognition(episodes).items()}
    for task, own in by_task(episodes).items():
        sums = episode_metrics(own)
        values |= {f"rollout/{task}/{key}": sums[key] for key in ("success_rate", "mean_return", "invalid_rate")}
        values[f"rollout/{task}/episodes"] = len(own)
    values |= {
        "rollout/episodes": len(episodes),
        "rollout/env_steps": steps,
        "rollout/env_errors": sum(r.env_errors for r in reports),
        "rollout/sampled_tokens": sum(r.sampled_tokens for r in reports),
        "rollout/worker_rss_max_mb": max((r.rss_bytes for r in reports), default=0) / MB,
        "speed/env_steps_per_s": steps / wall_s,
        "speed/sampled_tokens_per_s": sum(r.sampled_tokens for r in reports) / wall_s,
        "time/rollout_s": wall_s,
    }
    return values


def _drop_rows_after(path: Path, update: int) -> None:
    if not path.is_file():
        return
    kept = [line for line in path.read_text().splitlines(keepends=True) if _update_of(line) <= update]
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text("".join(kept))
    temporary.replace(path)


def _update_of(line: str) -> float:
    """Update of a row; infinity for the torn last line of a run that was killed."""
    try:
        return json.loads(line)["update"] if line.endswith("\n") else math.inf
    except ValueError:
        return math.inf
