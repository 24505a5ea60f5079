"""Points24 in words: its prompt, its scripted expert and the truth behind its picture."""

from collections.abc import Sequence
from typing import ClassVar

from envs.gym_cards.formula import Token, written
from envs.gym_cards.formula_task import FormulaTask
from envs.gym_cards.points24 import Points24
from envs.gym_cards.solver import plan


class Points24Task(FormulaTask):
    """Language side of `gym_cards/Points24-v0`; names are "1" to "10", then "+", "-", "*", "/", "(", ")", "="."""

    env_id = "gym_cards/Points24-v0"
    action_names = (*map(str, range(1, 11)), *Points24.symbols, "=")
    num_cards: ClassVar[int] = 4
    hand: ClassVar[str] = "four cards"
    ranks: ClassVar[str] = "A counts 1, J, Q and K count 10"
    task_text: ClassVar[str] = (
        'Spell a formula that equals 24 and uses each card once, one number, "+", "-", "*", "/", "(" or ")" per '
        'answer, then "=" to hand it in.'
    )
    form_thoughts: ClassVar[str] = "<sorted cards>: <whole formula> = 24"
    hopeless_text: ClassVar[str] = 'If 24 is out of reach, {think}choose "=".'
    hopeless_think: ClassVar[str] = 'think "<sorted cards>: none" and '

    def _plan(self, formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
        return plan(formula, numbers)

    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        hand = " ".join(map(str, sorted(numbers)))
        return f"{hand}: {written(plan)} = {Points24.target}" if plan else f"{hand}: none"


class FaceCardsTask(Points24Task):
    """For `treat_face_cards_as_10=False`, with three more numbers; pass it to `envs.make` as the adapter."""

    action_names = (*map(str, range(1, 14)), *Points24.symbols, "=")
    ranks: ClassVar[str] = "A counts 1, J 11, Q 12 and K 13"
