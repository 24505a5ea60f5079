"""What an agent remembers of its episode: the last observations and what it did, as data in the info."""

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from envs.base import TaskAdapter

QUOTED_CHARS = 200
"""How much of an action in free text is remembered."""


class Remembered(NamedTuple):
    """One past step."""

    observation: str
    """In the task's words (`TaskAdapter.recall`), on one line; empty where it has none."""
    action: str
    image: np.ndarray | None
    """The picture as the policy saw it, uint8 [H, W, 3]; only where the switches ask for it."""


class EpisodeMemory(gymnasium.Wrapper):
    """Adds `info["memory"]`, a tuple of `Remembered`, oldest first, empty after a reset.

    Args:
        env: any environment.
        task: its adapter, with its switches set; `switches.memory` says how many steps are remembered.
    """

    def __init__(self, env: gymnasium.Env, task: TaskAdapter) -> None:
        super().__init__(env)
        self._task = task
        self._steps: deque[Remembered] = deque(maxlen=task.switches.memory)
        self._now: tuple[Any, Mapping[str, Any]]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Forget everything and begin anew."""
        self._steps.clear()
        return self._seen(*self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and remember what was seen and done."""
        # Before the step: an environment may go on in the very objects that it handed out.
        past = self._past(action)
        outcome = self.env.step(action)
        self._steps.append(past)
        observation, info = self._seen(outcome[0], outcome[4])
        return observation, *outcome[1:4], info

    def _seen(self, observation: Any, info: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._now = observation, info
        return observation, {**info, "memory": tuple(self._steps)}

    def _past(self, action: Any) -> Remembered:
        task, now = self._task, self._now
        image = task.picture(*now) if task.switches.memory_frames else None
        words = task.recall(*now).replace("\n", " ").strip("\n ")
        return Remembered(words, self._words(action), None if image is None else image.copy())

    def _words(self, action: Any) -> str:
        """The name of the action in the state it answers to; free text as it is."""
        if isinstance(action, str):
            return " ".join(action.split())[:QUOTED_CHARS]
        info = self._now[1]
        for name in self._task.legal_actions(info):
            if data_equivalence(self._task.env_action(name, info), action, exact=True):
                return name
        return str(action)
