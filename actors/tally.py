"""Running sums of one episode, and the result they amount to when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envs.base import TaskAdapter
from protocol.episode import EpisodeResult
from protocol.trajectory import EndReason


@dataclass(slots=True)
class EpisodeTally:
    """Sums over the steps that an open episode has taken."""

    episode_return: float = 0.0
    steps: int = 0
    invalid_steps: int = 0
    recognized_steps: int = 0
    recognition_steps: int = 0
    field_rights: dict[str, int] = field(default_factory=dict)
    """Per perception field: steps at which it was right."""
    field_probes: dict[str, int] = field(default_factory=dict)
    """Per perception field: steps at which it had to be read."""

    def add(self, reward: float, *, legal: bool, recognized: Mapping[str, bool]) -> None:
        """Count one step.

        Args:
            reward: Of the step.
            legal: Whether the text named a legal action.
            recognized: For every perception field whether it was right; empty where the task has none.
        """
        self.episode_return += reward
        self.steps += 1
        self.invalid_steps += not legal
        self.recognized_steps += bool(recognized) and all(recognized.values())
        self.recognition_steps += bool(recognized)
        for name, right in recognized.items():
            self.field_rights[name] = self.field_rights.get(name, 0) + right
            self.field_probes[name] = self.field_probes.get(name, 0) + 1

    def result(self, adapter: TaskAdapter, end: EndReason, info: Mapping[str, Any], seed: int | None) -> EpisodeResult:
        """Sum up the finished episode; one that the environment broke off counts as lost.

        Args:
            adapter: Judges success.
            end: Why the episode is over.
            info: The last one that the environment gave.
            seed: See `EpisodeResult.seed`.
        """
        lost = end is EndReason.ENV_ERROR
        return EpisodeResult(
            env_id=adapter.component(info).env_id,
            task=adapter.task(info),
            seed=seed,
            episode_return=self.episode_return,
            length_steps=self.steps,
            success=not lost and adapter.success(self.episode_return, info),
            truncated=end is EndReason.TRUNCATED,
            env_error=lost,
            invalid_steps=self.invalid_steps,
            recognized_steps=self.recognized_steps,
            recognition_steps=self.recognition_steps,
            recognition={name: (self.field_rights[name], probes) for name, probes in self.field_probes.items()},
        )
