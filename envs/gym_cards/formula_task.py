"""What EZPoints and Points24 have in common in words: cards to read, a formula to continue, a plan to follow."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.base import TaskAdapter
from envs.gym_cards.formula import BLANK, Token, written
from envs.gym_cards.formula_game import EQUALS


class FormulaTask(TaskAdapter):
    """The prompt tells the formula; what the cards count must come from the picture.

    The expert spells out its plan, in plain arithmetic, then takes the plan's next token. Where no plan is left
    it gives up with "=", which costs no more than going on would.
    """

    @abstractmethod
    def _rules(self, formula: str) -> str:
        """The prompt, given the formula as text."""

    @abstractmethod
    def _plan(self, formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
        """The whole formula to aim at, without blanks and beginning with what is there; None if all is lost."""

    @abstractmethod
    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        """The plan in words."""

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Rules, the formula so far and the form of the answer."""
        return self._rules(written(info["Formula"]))

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
            "current formula": written(formula),
            "thoughts": self._thoughts(numbers, plan),
            "action": self.noisy(best, info, rng, noise),
        }
        return json.dumps(answer)

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """What the cards count, as a JSON list from left to right."""
        return {"cards": json.dumps(info["Numbers"])}
