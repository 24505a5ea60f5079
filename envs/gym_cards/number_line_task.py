"""NumberLine in words: its prompt, its scripted expert and the truth behind its picture."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.base import TaskAdapter

# The same text in every state: both numbers must come from the picture.
_PROMPT = (
    "The picture shows a target number and a current number. Bring the current number to the target: "
    '"+" adds 1 to it, "-" takes 1 away. Answer with one JSON object: {"current number": "<digit>", '
    '"target number": "<digit>", "thoughts": "<compare the two>", "action": "<+ or ->"}'
)


class NumberLineTask(TaskAdapter):
    """Language side of `gym_cards/NumberLine-v0`; names "-" and "+" are the actions 0 and 1."""

    env_id = "gym_cards/NumberLine-v0"
    action_names = ("-", "+")

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The constant task text."""
        return _PROMPT

    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """Both numbers, their order, and the step towards the target, on one line.

        Raises:
            ValueError: `noise` is outside [0, 1], or the current number already is the target.
        """
        current, target = info["Current"], info["Target"]
        if current == target:
            raise ValueError(f"current and target are both {target}: the episode is over, no step is left")
        best = "+" if current < target else "-"
        sign = "<" if current < target else ">"
        answer = self.recognition(info)
        answer["thoughts"] = f"{current} {sign} {target}"
        answer["action"] = self.noisy(best, info, rng, noise)
        return json.dumps(answer)

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """The two digits, in the order in which a response gives them."""
        return {"current number": str(info["Current"]), "target number": str(info["Target"])}
