"""The contract that turns an environment into language.

A rollout worker asks the adapter for the prompt and the legal actions of a state, and for what `env.step`
wants; data generation asks for the scripted expert; evaluation for ground truth and success. An adapter knows
nothing of models, tokens or processes. It is stateless: all it needs is in the observation and the info.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np


class TaskAdapter(ABC):
    """Language side of one environment; `prompt` and `expert` must be written, the rest has usual defaults.

    Attributes:
        env_id: the id under which `envs.make` finds the environment; it is written into every trajectory row.
        action_names: every action's name; for a Discrete action space in the order of its indices. Empty
            where names are only known per state (override `legal_actions` and `env_action` then).
    """

    env_id: str
    action_names: tuple[str, ...]

    @abstractmethod
    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Text of the task in this state, without image placeholder or chat template.

        It must be a function of its arguments, and must not tell what the policy is to read off the image.
        """

    def image(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """Picture of this state, uint8 [H, W, 3], or None for a text-only task. Default: the observation."""
        return observation

    def legal_actions(self, info: Mapping[str, Any]) -> Sequence[str]:
        """Names that are legal in this state, never empty. Default: all of `action_names`."""
        return self.action_names

    def env_action(self, name: str, info: Mapping[str, Any]) -> Any:
        """What `env.step` wants for a legal name. Default: the name's index in `action_names`.

        Raises:
            gymnasium.error.InvalidAction: the name is no action of this task.
        """
        if name not in self.action_names:
            known = ", ".join(map(repr, self.action_names))
            raise gymnasium.error.InvalidAction(f"{name!r} is no action of {self.env_id}; there are {known}")
        return self.action_names.index(name)

    @abstractmethod
    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """A whole response: one JSON object; its only "}" is the last character, its last key "action".

        With probability `noise` the action is a uniformly random legal one; everything before it stays right.

        Raises:
            ValueError: `noise` is outside [0, 1], or there is nothing left to decide in this state.
        """

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """JSON key of the response -> true value, for keys that must be read off the image. Default: none."""
        return {}

    def success(self, episode_return: float, info: Mapping[str, Any]) -> bool:
        """Whether a finished episode (its undiscounted return, its last info) counts. Default: return > 0."""
        return episode_return > 0

    def task(self, info: Mapping[str, Any]) -> str:
        """Name of the task within the environment, for metrics per task. Default: "", there is only one."""
        return ""

    def noisy(self, best: str, info: Mapping[str, Any], rng: np.random.Generator, noise: float) -> str:
        """The expert's `best` action, or with probability `noise` a uniformly random legal one.

        Raises:
            ValueError: `noise` is outside [0, 1].
        """
        if not 0.0 <= noise <= 1.0:
            raise ValueError(f"noise is a probability and must lie in [0, 1], not {noise!r}")
        if rng.random() >= noise:
            return best
        legal = self.legal_actions(info)
        return legal[int(rng.integers(len(legal)))]
