"""Several environments behind one: every episode belongs to one of them, drawn by weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import OneOf

from envs.base import Query, TaskAdapter
from envs.errors import EnvSetupError, ResetOptionsError

MIXTURE_ID = "croupier/Mixture"
COMPONENT = "mixture.component"
"""Key of the info that holds the name of the component which the episode belongs to."""


@dataclass(frozen=True, slots=True)
class Component:
    """One environment of a mixture."""

    env: gymnasium.Env
    task: TaskAdapter
    weight: float = 1.0
    """Share of the episodes, relative to the other components' weights; 0 is never drawn."""


class Mixture(gymnasium.Env[tuple[int, Any], tuple[int, Any]]):
    """Plays an episode of one component at a time; observations and actions are pairs (component, its own).

    Components are numbered in the order of `components`. `reset(options={"component": name, ...})` chooses one; the
    remaining options are its own. Info is the component's, and COMPONENT beside it.

    Raises:
        EnvSetupError: there is no component, or the weights are not such.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, components: Mapping[str, Component]) -> None:
        """Put the components together; the mixture owns their environments from now on."""
        weights = np.array([component.weight for component in components.values()], dtype=np.float64)
        if not len(weights) or not np.all(np.isfinite(weights)) or weights.min() < 0 or weights.sum() == 0:
            shown = {name: component.weight for name, component in components.items()}
            raise EnvSetupError(f"a mixture needs weights of at least 0 and one above, not {shown}")
        self.names = tuple(components)
        self.envs = tuple(component.env for component in components.values())
        self._shares = weights / weights.sum()
        self.observation_space = OneOf([env.observation_space for env in self.envs])
        self.action_space = OneOf([env.action_space for env in self.envs])
        self._playing: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[int, Any], dict[str, Any]]:
        """Draw a component and begin its next episode, from a seed drawn here.

        Raises:
            ResetOptionsError: `options` names no component, or the component does not know the other options.
        """
        super().reset(seed=seed)
        own = dict(options or {})
        drawn = int(self.np_random.choice(len(self.names), p=self._shares))
        name = own.pop("component", self.names[drawn])
        if name not in self.names:
            raise ResetOptionsError(f"there is no component {name!r} in the mixture of {', '.join(self.names)}")
        number, self._playing = self.names.index(name), None
        observation, info = self.envs[number].reset(seed=int(self.np_random.integers(2**31)), options=own or None)
        self._playing = number  # only now: after a failed reset no episode is running
        return self._tagged(number, observation, info)

    def step(self, action: tuple[int, Any]) -> tuple[tuple[int, Any], float, bool, bool, dict[str, Any]]:
        """Step the component that is playing.

        Raises:
            ResetNeeded: no episode is running.
            gymnasium.error.InvalidAction: the action belongs to another component.
        """
        playing = self._playing
        if playing is None:
            raise ResetNeeded("step() before a reset has begun an episode: call reset() first")
        if not isinstance(action, tuple) or len(action) != 2 or action[0] != playing:
            raise gymnasium.error.InvalidAction(
                f"action must be a pair ({playing}, action of component {self.names[playing]!r}), not {action!r}"
            )
        observation, reward, terminated, truncated, info = self.envs[playing].step(action[1])
        tagged, info = self._tagged(playing, observation, info)
        return tagged, float(reward), terminated, truncated, info

    def close(self) -> None:
        """Close every component."""
        for env in self.envs:
            env.close()

    def _tagged(self, number: int, observation: Any, info: dict[str, Any]) -> tuple[tuple[int, Any], dict[str, Any]]:
        return (number, observation), {**info, COMPONENT: self.names[number]}


class MixtureTask(TaskAdapter):
    """Language side of a `Mixture`: whatever the component's adapter says."""

    env_id = MIXTURE_ID
    action_names = ()

    def __init__(self, components: Mapping[str, Component]) -> None:
        self._tasks = {name: component.task for name, component in components.items()}
        self._numbers = {name: number for number, name in enumerate(components)}

    def component(self, info: Mapping[str, Any]) -> TaskAdapter:
        """Adapter of the component that is playing."""
        return self._tasks[info[COMPONENT]]

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The component's."""
        return self.component(info).prompt(observation[1], info)

    def image(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """The component's."""
        return self.component(info).image(observation[1], info)

    def recall(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The component's."""
        return self.component(info).recall(observation[1], info)

    def picture(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """The component's, under its own switches."""
        return self.component(info).picture(observation[1], info)

    def query(self, observation: Any, info: Mapping[str, Any]) -> Query:
        """The component's, under its own switches."""
        return self.component(info).query(observation[1], info)

    def legal_actions(self, info: Mapping[str, Any]) -> Sequence[str]:
        """The component's."""
        return self.component(info).legal_actions(info)

    def env_action(self, name: str, info: Mapping[str, Any]) -> tuple[int, Any]:
        """The component's number and its own action."""
        return self._numbers[info[COMPONENT]], self.component(info).env_action(name, info)

    def fallback(self, value: str, info: Mapping[str, Any]) -> str | None:
        """The component's."""
        return self.component(info).fallback(value, info)

    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """The component's."""
        return self.component(info).expert(info, rng, noise)

    def mistake(self, info: Mapping[str, Any], rng: np.random.Generator) -> str | None:
        """The component's."""
        return self.component(info).mistake(info, rng)

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """The component's."""
        return self.component(info).recognition(info)

    def truth(self, info: Mapping[str, Any]) -> dict[str, str]:
        """The component's."""
        return self.component(info).truth(info)

    def success(self, episode_return: float, info: Mapping[str, Any]) -> bool:
        """The component's."""
        return self.component(info).success(episode_return, info)

    def task(self, info: Mapping[str, Any]) -> str:
        """Name of the component, and behind a "/" its own sub-task if it has any."""
        own = self.component(info).task(info)
        return f"{info[COMPONENT]}/{own}" if own else info[COMPONENT]


def mix(components: Mapping[str, Component]) -> tuple[Mixture, MixtureTask]:
    """A mixture and its adapter.

    Args:
        components: by name; the name tags rows and metrics, so it must not hold "/".

    Raises:
        EnvSetupError: a name is not usable, there is no component, or the weights are not such.
    """
    for name, component in components.items():
        check_component_name(name)
        if isinstance(component.task, MixtureTask):
            raise EnvSetupError(f"component {name!r} is a mixture itself: name its components beside the others")
    return Mixture(components), MixtureTask(components)


def check_component_name(name: str) -> None:
    """Refuse a name that rows and metrics cannot be tagged with.

    Raises:
        EnvSetupError: it is empty or holds "/".
    """
    if not name or "/" in name:
        raise EnvSetupError(f"component name {name!r} tags rows and metrics: it must not be empty or hold '/'")
