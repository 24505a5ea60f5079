"""EZPoints in words: its prompt, its scripted expert and the truth behind its picture."""

from collections.abc import Sequence

from envs.gym_cards.completion import complete
from envs.gym_cards.ez_points import EZPoints
from envs.gym_cards.formula import Token, written
from envs.gym_cards.formula_task import FormulaTask

_PROMPT = (
    "The picture shows two cards; J, Q and K count 10. Spell a formula that equals 12 and uses each card once, one "
    'number, "+" or "*" per answer, then "=" to hand it in. Formula so far: "{formula}". Answer with one JSON '
    'object like {{"cards": [0, 0], "current formula": "<formula so far>", "thoughts": "<whole formula> = 12", '
    '"action": "<what comes next>"}}, where "cards" lists what the two cards count.'
)


class EZPointsTask(FormulaTask):
    """Language side of `gym_cards/EZPoints-v0`; names are the numbers "1" to "10", "+", "*" and "="."""

    env_id = "gym_cards/EZPoints-v0"
    action_names = (*map(str, range(1, 11)), "+", "*", "=")

    def _rules(self, formula: str) -> str:
        return _PROMPT.format(formula=formula)

    def _plan(self, formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
        return complete(tuple(formula), tuple(numbers), EZPoints.target, EZPoints.symbols, EZPoints.longest)

    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        return f"{written(plan)} = {EZPoints.target}" if plan else "none"
