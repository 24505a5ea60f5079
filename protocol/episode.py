"""What one finished episode amounted to: the row of every success table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """Summary of one finished episode, as training metrics and the evaluation program count it."""

    env_id: str
    task: str
    seed: int | None
    """Seed of the reset; None where the environment drew its next episode from its own stream."""
    episode_return: float
    """Undiscounted sum of rewards."""
    length_steps: int
    success: bool
    truncated: bool
    env_error: bool
    """The environment raised; the episode counts as lost."""
    invalid_steps: int
    """Steps whose text named no legal action (the task's fallback was taken, mostly a random legal one)."""
    recognized_steps: int
    """Steps whose perception fields were all right."""
    recognition_steps: int
    """Steps for which the task has a recognition probe."""
    recognition: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Per perception field: steps at which it was right, and steps at which it had to be read."""
