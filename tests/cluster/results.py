"""Episode results and rollout reports with plain numbers, for tests that sum them up."""

from typing import Any

from actors.report import RolloutReport
from protocol.episode import EpisodeResult


def episode(**changes: Any) -> EpisodeResult:
    """A won episode of two steps, all of them valid and recognised."""
    values: dict[str, Any] = {
        "env_id": "test/Env-v0",
        "task": "",
        "seed": None,
        "episode_return": 1.0,
        "length_steps": 2,
        "success": True,
        "truncated": False,
        "env_error": False,
        "invalid_steps": 0,
        "recognized_steps": 2,
        "recognition_steps": 2,
    }
    return EpisodeResult(**values | changes)


LOST = {"episode_return": -3.0, "length_steps": 10, "success": False, "truncated": True}
"""What differs in an episode that ran into the step limit."""


def report(*episodes: EpisodeResult, **changes: Any) -> RolloutReport:
    """One worker's report of 16 steps, two of them invalid."""
    values: dict[str, Any] = {
        "worker_id": "worker-0",
        "env_steps": 16,
        "sampled_tokens": 200,
        "wall_s": 3.0,
        "env_s": 0.1,
        "sample_s": 2.0,
        "invalid_steps": 2,
        "env_errors": 1,
        "episodes": tuple(episodes),
    }
    return RolloutReport(**values | changes)
