"""ALFWorld's text games in words: the prompt, the scripted player's answer and success."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.alfworld.matching import match_command
from envs.base import TaskAdapter

_OPENING = "You act in a household by giving one command at a time."
_ASK = (
    "Answer with one JSON object: "
    '{"thoughts": "<what you see and what is next>", "action": "<one admissible command, word by word>"}'
)


class AlfworldTextTask(TaskAdapter):
    """Language side of `alfworld/Text-v0`; an action's name is an admissible command."""

    env_id = "alfworld/Text-v0"
    action_names = ()

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Task, room, the last commands with their answers, the state and all admissible commands.

        The room's list of receptacles is always there: the engine tells it once, and "go to" needs it.
        """
        lines = [_OPENING, f"Your task: {info['task']}.", info["room"]]
        # The last answer is the present observation, which stands on its own line.
        lines += [f"You gave: {command}\nAnswer: {answer}" for command, answer in info["history"][:-1]]
        lines += [f"You gave: {command}" for command, _ in info["history"][-1:]]
        if info["steps"]:
            lines.append(f"Now: {info['observation']}")
        lines.append(f"Admissible commands: {', '.join(self.legal_actions(info))}.")
        return "\n".join([*lines, _ASK])

    def image(self, observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
        """None: this task is text only."""
        return None

    def legal_actions(self, info: Mapping[str, Any]) -> Sequence[str]:
        """The admissible commands, sorted."""
        return info["admissible_commands"]

    def env_action(self, name: str, info: Mapping[str, Any]) -> str:
        """The command itself, as the game spells it.

        Raises:
            gymnasium.error.InvalidAction: the name is no admissible command.
        """
        command = match_command(name, self.legal_actions(info))
        if command is None:
            raise gymnasium.error.InvalidAction(
                f"{name!r} names no admissible command of {self.env_id}; there are "
                f"{', '.join(map(repr, self.legal_actions(info)))}"
            )
        return command

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
        return json.dumps({"thoughts": reason, "action": self.noisy(command, info, rng, noise)})

    def success(self, episode_return: float, info: Mapping[str, Any]) -> bool:
        """Whether the task is completed; penalties do not matter."""
        return bool(info["won"])

    def task(self, info: Mapping[str, Any]) -> str:
        """ALFWorld's name of the task type."""
        return info["task_type"]
