"""The contract that turns an environment into language.

A rollout worker asks the adapter for the prompt and the legal actions of a state, and for what `env.step`
wants; data generation asks for the scripted expert; evaluation for ground truth and success. An adapter knows
nothing of models, tokens or processes. It is stateless: all it needs is in the observation and the info.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np

from envs.switches import PromptSwitches, draw_marks


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What the policy is given in one state."""

    text: str
    """Without image placeholders or chat template."""
    images: tuple[np.ndarray, ...]
    """Pictures in the order in which the text speaks of them, each uint8 [H, W, 3]; the last is the present one."""


class TaskAdapter(ABC):
    """Language side of one environment; `prompt` and `expert` must be written, the rest has usual defaults.

    Attributes:
        env_id: the id under which `envs.make` finds the environment; it is written into every trajectory row.
        action_names: every action's name; for a Discrete action space in the order of its indices. Empty
            where names are only known per state (override `legal_actions` and `env_action` then).
        switchable: names of the `PromptSwitches` that the task honours, beside those that work for every task.
        key_fields: keys of the response that `switches.key_state` turns off.
        default_memory: how many past steps the prompt tells where the switches do not say.
        switches: set by `envs.make`.
    """

    env_id: str
    action_names: tuple[str, ...]
    switchable: ClassVar[frozenset[str]] = frozenset()
    key_fields: ClassVar[tuple[str, ...]] = ()
    default_memory: ClassVar[int] = 0
    switches: PromptSwitches = PromptSwitches(memory=0)

    @abstractmethod
    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Text of the task in this state, without image placeholder, chat template or memory.

        It must be a function of its arguments, and must not tell what the policy is to read off the image.
        """

    def image(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """Picture of this state, uint8 [H, W, 3], or None for a text-only task. Default: the observation."""
        return observation

    def recall(self, observation: Any, info: Mapping[str, Any]) -> str:
        """This state in the words in which later prompts remember it. Default: an observation that is text."""
        return observation if isinstance(observation, str) else ""

    def picture(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """The image as the policy sees it: with the marks of the switches, or None where they want text only."""
        image = None if self.switches.text_only else self.image(observation, info)
        if image is None or self.switches.marks is None:
            return image
        return draw_marks(self.switches.marks, image, info)

    def query(self, observation: Any, info: Mapping[str, Any]) -> Query:
        """Prompt and pictures of this state, with the memory of the episode before them."""
        image, memory = self.picture(observation, info), info.get("memory", ())
        images = tuple(step.image for step in memory if step.image is not None)
        lines = ["Earlier in this episode:"] if memory else []
        lines += [f"- {' '.join(filter(None, (step.observation, 'You gave:', step.action)))}" for step in memory]
        if images:
            lines.append("The pictures before the last one belong to these steps, in their order.")
        text = "\n".join([*lines, self.prompt(observation, info)])
        return Query(text, images if image is None else (*images, image))

    def component(self, info: Mapping[str, Any]) -> "TaskAdapter":
        """The adapter that rows of this state are tagged with; another one only in a mixture of environments."""
        return self

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

    def whole_words(self) -> Sequence[str]:
        """Words that a tokenizer trained for this task should keep whole wherever they stand. Default: action names."""
        return self.action_names

    @abstractmethod
    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """A whole response: one JSON object; its only "}" is the last character, its last key "action".

        With probability `noise` the action is a uniformly random legal one; everything before it stays right.

        Raises:
            ValueError: `noise` is outside [0, 1], there is nothing left to decide in this state, or the expert knows
                no answer to it; a demonstration ends there.
        """

    def mistake(self, info: Mapping[str, Any], rng: np.random.Generator) -> str | None:
        """A whole response, as `expert` writes one, whose action is not legal; None (default) if there is none to show.

        Demonstrations play mistakes so that what follows one is seen, and never teach them.
        """
        return None

    def fallback(self, value: str, info: Mapping[str, Any]) -> str | None:
        """What is played where a response names no legal action, in the form that `env_action` takes.

        Args:
            value: text of the response's action field; "" if it has none.
            info: of the state.

        Returns:
            None (default) for a uniformly random legal action, or a text that the environment itself punishes.
        """
        return None

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """JSON key of the response -> true value, for keys that must be read off the image. Default: none."""
        return {}

    def truth(self, info: Mapping[str, Any]) -> dict[str, str]:
        """What the picture shows, by name, whether or not the response must state it: ground truth for probes.

        Default: what `recognition` asks for.
        """
        return self.recognition(info)

    def success(self, episode_return: float, info: Mapping[str, Any]) -> bool:
        """Whether a finished episode (its undiscounted return, its last info) counts. Default: return > 0."""
        return episode_return > 0

    def task(self, info: Mapping[str, Any]) -> str:
        """Name of the task within the environment, for metrics per task. Default: "", there is only one."""
        return ""

    def kept(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a full response that the switches leave, in their order."""
        dropped = set() if self.switches.key_state else set(self.key_fields)
        if not self.switches.thoughts:
            dropped.add("thoughts")
        return {key: value for key, value in answer.items() if key not in dropped}

    def noisy(self, best: str, info: Mapping[str, Any], rng: np.random.Generator, noise: float) -> str:
        """The expert's `best` action, or with probability `noise` a uniformly random legal one.

        Raises:
            ValueError: `noise` is outside [0, 1].
        """
        check_noise(noise)
        if rng.random() >= noise:
            return best
        legal = self.legal_actions(info)
        return legal[int(rng.integers(len(legal)))]


def check_noise(noise: float) -> None:
    """Refuse a noise that is no probability.

    Raises:
        ValueError: `noise` is outside [0, 1].
    """
    if not 0.0 <= noise <= 1.0:
        raise ValueError(f"noise is a probability and must lie in [0, 1], not {noise!r}")
