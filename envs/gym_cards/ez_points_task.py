"""EZPoints in words: its prompt, its scripted expert and the truth behind its picture."""

from collections.abc import Sequence
from typing import ClassVar

from envs.gym_cards.completion import complete
from envs.gym_cards.ez_points import EZPoints
from envs.gym_cards.formula import Token, written
from envs.gym_cards.formula_task import FormulaTask


class EZPointsTask(FormulaTask):
    """Language side of `gym_cards/EZPoints-v0`; names are the numbers "1" to "10", "+", "*" and "="."""

    env_id = "gym_cards/EZPoints-v0"
    action_names = (*map(str, range(1, 11)), "+", "*", "=")
    num_cards: ClassVar[int] = 2
    hand: ClassVar[str] = "two cards"
    ranks: ClassVar[str] = "J, Q and K count 10"
    task_text: ClassVar[str] = (
        'Spell a formula that equals 12 and uses each card once, one number, "+" or "*" per answer, then "=" to hand '
        "it in."
    )
    form_thoughts: ClassVar[str] = "<whole formula> = 12"

    def _plan(self, formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
        return complete(tuple(formula), tuple(numbers), EZPoints.target, EZPoints.symbols, EZPoints.longest)

    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        return f"{written(plan)} = {EZPoints.target}" if plan else "none"
