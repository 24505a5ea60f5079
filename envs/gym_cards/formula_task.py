"""What EZPoints and Points24 have in common in words: cards to read, a formula to continue, a plan to follow."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from envs.base import TaskAdapter
from envs.gym_cards.formula import BLANK, Token, written
from envs.gym_cards.formula_game import EQUALS


class FormulaTask(TaskAdapter):
    """What the cards count must come from the picture; the formula too, unless the prompt tells it.

    The expert spells out its plan, in plain arithmetic, then takes the plan's next token. Where no plan is left
    it gives up with "=", which costs no more than going on would.
    """

    switchable: ClassVar[frozenset[str]] = frozenset({"rules", "thoughts", "key_state", "formula", "text_only"})
    key_fields: ClassVar[tuple[str, ...]] = ("cards", "current formula")

    hand: ClassVar[str]
    """How many cards, in words."""
    ranks: ClassVar[str]
    """What the cards count, in words."""
    task_text: ClassVar[str]
    """Goal and actions, in words."""
    form_thoughts: ClassVar[str]
    """What the thoughts should hold."""
    hopeless_text: ClassVar[str] = ""
    """What to do where no plan is left; `{think}` stands for what to write in the thoughts."""
    hopeless_think: ClassVar[str] = ""
    num_cards: ClassVar[int]

    @abstractmethod
    def _plan(self, formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
        """The whole formula to aim at, without blanks and beginning with what is there; None if all is lost."""

    @abstractmethod
    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        """The plan in words."""

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Rules, the formula so far and the form of the answer, each unless the switches leave it out."""
        switches, scene = self.switches, self._scene(info)
        formula = [f'Formula so far: "{written(info["Formula"])}".'] if switches.formula else []
        if not switches.rules:
            return " ".join((f"{scene}.", *formula))
        form = {
            "cards": [0] * self.num_cards,
            "current formula": "<formula so far>",
            "thoughts": self.form_thoughts,
            "action": "<what comes next>",
        }
        parts = [f"{scene}; {self.ranks}. {self.task_text}", *formula]
        answer = f"Answer with one JSON object like {json.dumps(self.kept(form))}"
        counts = f', where "cards" lists what the {self.hand} count.' if switches.key_state else "."
        parts.append(answer + counts)
        if self.hopeless_text:
            parts.append(self.hopeless_text.format(think=self.hopeless_think if switches.thoughts else ""))
        return " ".join(parts)

    def _scene(self, info: Mapping[str, Any]) -> str:
        if self.switches.text_only:
            return f"The {self.hand} are {_names(info)}"
        return f"The picture shows {self.hand}" + ("" if self.switches.formula else " and the formula so far")

    def recall(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The formula, where prompts tell it."""
        return f'Formula: "{written(info["Formula"])}".' if self.switches.formula else ""

    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """Cards, formula, plan and the plan's next token, on one line.

        Raises:
            ValueError: `noise` is outside [0, 1].
        """
        numbers, formula = info["Numbers"], info["Formula"]
        plan = self._plan(formula, numbers)
        begun = sum(token != BLANK for token in formula)
        best = EQUALS if plan is None or len(plan) == begun else str(plan[begun])
        answer = {
            "cards": list(numbers),
            "current formula": self.truth(info)["current formula"],
            "thoughts": self._thoughts(numbers, plan),
            "action": self.noisy(best, info, rng, noise),
        }
        return json.dumps(self.kept(answer))

    def truth(self, info: Mapping[str, Any]) -> dict[str, str]:
        """What the cards count, as a JSON list from left to right, and the formula so far.

        No picture shows the blanks at a formula's end, which picks of unavailable numbers leave.
        """
        return {"cards": json.dumps(list(info["Numbers"])), "current formula": written(info["Formula"]).rstrip(BLANK)}

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """What of the truth the response states and the prompt does not tell."""
        told = {"cards", "current formula"} if self.switches.text_only else set()
        if self.switches.formula:
            told.add("current formula")
        return {key: value for key, value in self.kept(self.truth(info)).items() if key not in told}


def _names(info: Mapping[str, Any]) -> str:
    """The cards by their ranks, as they are printed on them."""
    ranks = ["10" if code[1:] == "T" else code[1:] for code in info["Cards"]]
    return f"{', '.join(ranks[:-1])} and {ranks[-1]}"
