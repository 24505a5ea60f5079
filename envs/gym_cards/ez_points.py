"""EZPoints: make 12 of two cards by adding or multiplying.

Rules, rewards and initial distribution follow gym_cards' EZPoints (RL4VLM, arXiv 2405.10292); the drawing is
our own, in the same layout.
"""

from collections.abc import Sequence

import numpy as np

from envs.errors import ResetOptionsError
from envs.gym_cards.cards import Place, lay, put_label, table
from envs.gym_cards.deck import RANKS, SUITS, value
from envs.gym_cards.formula import Grammar
from envs.gym_cards.formula_game import FormulaGame
from envs.gym_cards.formula_picture import put_formula

PLACES = (
    Place(5, 55, 135, 189, rank=(11, 106, 97, 194), suit=(117, 82, 34)),
    Place(153, 55, 135, 189, rank=(203, 106, 283, 194), suit=(176, 82, 34)),
)
"""Left and right card. Each rank lies in one cell of a 3 x 3 grid, see `cards.py`."""

FORMULA_BOX = (110, 250, 298, 300)


class EZPoints(FormulaGame):
    """Actions 0..9 are the numbers 1..10, then come "+", "*" and "=". Every deal can be won in four steps."""

    target, hand_size, symbols, longest = 12, 2, "+*", 5

    def __init__(self, grammar: Grammar = "strict", render_mode: str | None = None) -> None:
        """Make a game; `grammar` is "strict" or "compatible", see `formula.py`.

        Raises:
            ValueError: there is no such grammar.
        """
        super().__init__(highest=10, grammar=grammar, render_mode=render_mode)

    def _deal(self) -> None:
        base = RANKS[int(self.np_random.integers(1, 13))]  # no ace
        number = value("H" + base)
        multiply = 12 % number == 0 and self.np_random.random() < 0.5
        partner = RANKS[(12 // number if multiply else 12 - number) - 1]  # a ten is a T here, never a J, Q or K
        ranks = (partner, base) if self.np_random.random() < 0.5 else (base, partner)
        suits = self.np_random.integers(4, size=2)
        self._hold([SUITS[suit] + rank for suit, rank in zip(suits, ranks, strict=True)])

    def _check_deal(self, cards: Sequence[str]) -> None:
        one, two = map(value, cards)
        if 12 not in (one + two, one * two) or min(one, two) == 1:
            raise ResetOptionsError(
                f"reset option 'cards' counts {one} and {two}; only pairs from 2 to 10 with sum or product 12 are dealt"
            )

    def _frame(self) -> np.ndarray:
        frame = table()
        for place, code in zip(PLACES, self._cards, strict=True):
            lay(frame, place, code)
        put_label(frame, 10, 266, "Formula:", size=22)
        put_formula(frame, FORMULA_BOX, self._formula, size=42)
        return frame
