"""Points24: make 24 of four cards with the four operations and brackets; about a quarter of the deals cannot win.

Rules, rewards and initial distribution follow gym_cards' Points24 (RL4VLM, arXiv 2405.10292); the drawing is
our own, in the same layout.
"""

import numpy as np

from envs.gym_cards.cards import Place, lay, put_label, table
from envs.gym_cards.deck import RANKS, SUITS
from envs.gym_cards.formula import Grammar
from envs.gym_cards.formula_game import FormulaGame
from envs.gym_cards.formula_picture import put_formula
from envs.gym_cards.hands import HANDS, Hands, is_dealt

PLACES = tuple(
    Place(x, 103, 67, 93, rank=(left, 108, left + 41, 164), suit=(x + 33, 180, 22))
    for x, left in ((5, 18), (78, 101), (152, 156), (226, 239))
)
"""The four cards. Each rank lies in one cell of a 3 x 3 grid, see `cards.py`; the middle cell holds two."""

FORMULA_BOX = (10, 223, 298, 300)
"""Two lines, where the original had one that ran off the right edge."""


class Points24(FormulaGame):
    """Actions 0..9 are the numbers 1..10, then come "+", "-", "*", "/", "(", ")" and "="."""

    target, hand_size, symbols, longest = 24, 4, "+-*/()", 20

    def __init__(
        self,
        treat_face_cards_as_10: bool = True,
        grammar: Grammar = "strict",
        hands: Hands = "all",
        render_mode: str | None = None,
    ) -> None:
        """Make a game.

        Args:
            treat_face_cards_as_10: False makes J, Q and K count 11, 12 and 13; the numbers then are the actions
                0..12 and the symbols follow.
            grammar: "strict" or "compatible", see `formula.py`.
            hands: "all", or "train" and "held_out" for the two sides of `hands.py`; a deal of the other side is dealt
                again. `reset(options=...)` takes any hand.
            render_mode: None or "rgb_array".

        Raises:
            ValueError: there is no such grammar or side, or `treat_face_cards_as_10` is no bool.
        """
        if not isinstance(treat_face_cards_as_10, bool):
            raise ValueError(f"treat_face_cards_as_10 must be True or False, not {treat_face_cards_as_10!r}")
        if hands not in HANDS:
            raise ValueError(f"hands must be one of {', '.join(map(repr, HANDS))}, not {hands!r}")
        self._hands: Hands = hands
        super().__init__(highest=10 if treat_face_cards_as_10 else 13, grammar=grammar, render_mode=render_mode)

    def _deal(self) -> None:
        while True:
            ranks = self.np_random.integers(13, size=self.hand_size)
            suits = self.np_random.integers(4, size=self.hand_size)
            self._hold([SUITS[suit] + RANKS[rank] for suit, rank in zip(suits, ranks, strict=True)])
            if is_dealt(self._numbers, self._hands):
                return

    def _frame(self) -> np.ndarray:
        frame = table()
        for place, code in zip(PLACES, self._cards, strict=True):
            lay(frame, place, code)
        put_label(frame, 10, 199, "Formula:", size=22)
        put_formula(frame, FORMULA_BOX, self._formula, size=36)
        return frame
