"""NumberLine in words: its prompt, its scripted expert and the truth behind its picture."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from envs.base import TaskAdapter

# With a picture the same text in every state: both numbers must come from it.
_SHOWN = "The picture shows a target number and a current number."
_TOLD = "The target number is {target}, the current number is {current}."
_RULES = 'Bring the current number to the target: "+" adds 1 to it, "-" takes 1 away.'
_FORM = {
    "current number": "<digit>",
    "target number": "<digit>",
    "thoughts": "<compare the two>",
    "action": "<+ or ->",
}


class NumberLineTask(TaskAdapter):
    """Language side of `gym_cards/NumberLine-v0`; names "-" and "+" are the actions 0 and 1."""

    env_id = "gym_cards/NumberLine-v0"
    action_names = ("-", "+")
    switchable: ClassVar[frozenset[str]] = frozenset({"rules", "thoughts", "key_state", "text_only"})
    key_fields: ClassVar[tuple[str, ...]] = ("current number", "target number")

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The rules and the form of the answer, unless they are left out."""
        told = _TOLD.format(target=info["Target"], current=info["Current"]) if self.switches.text_only else _SHOWN
        if not self.switches.rules:
            return told
        return f"{told} {_RULES} Answer with one JSON object: {json.dumps(self.kept(_FORM))}"

    def recall(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Both numbers where no picture shows them."""
        return _TOLD.format(target=info["Target"], current=info["Current"]) if self.switches.text_only else ""

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
        thoughts = {"thoughts": f"{current} {sign} {target}"}
        action = {"action": self.noisy(best, info, rng, noise)}
        return json.dumps(self.kept(self.truth(info) | thoughts | action))

    def truth(self, info: Mapping[str, Any]) -> dict[str, str]:
        """The two digits, in the order in which a response gives them."""
        return {"current number": str(info["Current"]), "target number": str(info["Target"])}

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """The two digits, where the response states them and the prompt does not tell them."""
        return {} if self.switches.text_only else self.kept(self.truth(info))
