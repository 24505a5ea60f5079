"""ALFWorld's text games in words: the prompt, the scripted player's answer and success."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from envs.base import TaskAdapter
from envs.matching import only_name_in

_OPENING = "You act in a household by giving one command at a time."
_FORM = {"thoughts": "<what you see and what is next>", "action": "<one admissible command, word by word>"}

_COMMANDS = (
    "go to {place}",
    "open {place}",
    "close {place}",
    "take {thing} from {place}",
    "move {thing} to {place}",
    "clean {thing} with {place}",
    "heat {thing} with {place}",
    "cool {thing} with {place}",
    "use {thing}",
)

_NAME = re.compile(r"[a-z]+ \d+")

LONGEST_COMMAND_CHARS = 200
"""What is longer than any command is played as no command at all."""


class AlfworldTextTask(TaskAdapter):
    """Language side of `alfworld/Text-v0`; an action's name is an admissible command."""

    env_id = "alfworld/Text-v0"
    action_names = ()
    switchable: ClassVar[frozenset[str]] = frozenset({"rules", "thoughts", "text_only"})
    default_memory: ClassVar[int] = 2

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Task, room, the state and all admissible commands; with the rules also what this is and how to answer.

        The room's list of receptacles is always there: the engine tells it once, and "go to" needs it. So are the
        commands: after one that is not among them the game's words alone do not tell where the player stands.
        """
        lines = [f"Your task: {info['task']}.", info["room"]]
        if info["steps"]:
            lines.append(f"Now: {info['observation']}")
        lines.append(f"Admissible commands: {', '.join(self.legal_actions(info))}.")
        if not self.switches.rules:
            return "\n".join(lines)
        return "\n".join([_OPENING, *lines, f"Answer with one JSON object: {json.dumps(self.kept(_FORM))}"])

    def whole_words(self) -> Sequence[str]:
        """The classes of things and receptacles: what is copied from prompt to command is one token in both."""
        from envs.alfworld.household import CLASSES  # needs the package, like every environment of this task

        return CLASSES

    def image(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """None: this task is text only."""
        return None

    def recall(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The engine's last sentences; nothing for the first state, whose room and task every prompt tells."""
        return info["observation"] if info["steps"] else ""

    def legal_actions(self, info: Mapping[str, Any]) -> Sequence[str]:
        """The admissible commands, sorted."""
        return info["admissible_commands"]

    def env_action(self, name: str, info: Mapping[str, Any]) -> str:
        """The command as the game spells it; a text that names none as it is, which the game answers and punishes."""
        return only_name_in(name, self.legal_actions(info)) or name

    def fallback(self, value: str, info: Mapping[str, Any]) -> str:
        """The text itself: the game says that nothing happens, and the environment charges for it."""
        value = " ".join(value.split())
        return value if len(value) <= LONGEST_COMMAND_CHARS else ""

    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """The scripted player's reason and command, on one line.

        Raises:
            ValueError: `noise` is outside [0, 1], or the player knows no command in this state.
        """
        command, reason = info["expert"]
        if not command:
            raise ValueError(
                f"the scripted player knows no command in game {info['game']!r}: "
                f"{'it is won' if info['won'] else 'the game is beyond it'}"
            )
        return json.dumps(self.kept({"thoughts": reason, "action": self.noisy(command, info, rng, noise)}))

    def mistake(self, info: Mapping[str, Any], rng: np.random.Generator) -> str | None:
        """A command of the game's grammar about things and places that were told, but not admissible here.

        Half of them go to where the player stands already, which is what trained policies do wrong most often.
        """
        legal = self.legal_actions(info)
        places = sorted(set(_NAME.findall(info["room"])))
        here = [place for place in places if f"go to {place}" not in legal]
        things = sorted(set(_NAME.findall(" ".join(legal))) - set(places)) or places
        pattern, thing, place = (str(rng.choice(of)) for of in (_COMMANDS, things, places))
        command = pattern.format(thing=thing, place=place)
        if here and rng.random() < 0.5:
            thing = str(rng.choice(here))
            command = f"go to {thing}"
        if command in legal:
            command = f"take {place} from {place}"
        return json.dumps(self.kept({"thoughts": f"try {thing}", "action": command}))

    def success(self, episode_return: float, info: Mapping[str, Any]) -> bool:
        """Whether the task is completed; penalties do not matter."""
        return bool(info["won"])

    def task(self, info: Mapping[str, Any]) -> str:
        """ALFWorld's name of the task type."""
        return info["task_type"]
