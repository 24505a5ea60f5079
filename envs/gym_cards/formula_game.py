"""Rules shared by EZPoints and Points24: spell a formula, token by token, that makes the cards equal a target.

They follow RL4VLM's gym_cards (arXiv 2405.10292) to the letter, the length check before the "=" check included;
only the value of a formula is found otherwise, see `formula.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from envs.errors import ResetOptionsError
from envs.gym_cards import deck
from envs.gym_cards.formula import BLANK, GRAMMARS, Grammar, Token, evaluate
from envs.gym_cards.game import Game
from envs.gym_cards.options import check_keys

EQUALS = "="


class FormulaGame(Game):
    """Actions are the numbers 1..highest, then the symbols of the game, then "=".

    A step appends a number or a symbol (reward 0), or a blank where the number is not available (-1). "="
    terminates: +10 if the formula is worth the target and holds as many numbers as there are cards, else -1.
    A step that finds more than `longest` tokens in the formula is truncated with -1, whatever its action.

    Info: "Cards" (codes like "H4"), "Numbers" (what they count) and "Formula" (list of int and str). Where "="
    has won there is "Grammar" too: the plainest that the win needed, so "compatible" for one that plain arithmetic
    would not have granted.

    `reset(options={"cards": ["H4", "S8"], "formula": [4, "+"]})` starts from that state; the formula may be
    left out, and " " in it is a blank.
    """

    target: ClassVar[int]
    hand_size: ClassVar[int]
    symbols: ClassVar[str]
    longest: ClassVar[int]
    """Tokens in the longest formula that can still be submitted."""

    def __init__(self, highest: int, grammar: Grammar, render_mode: str | None) -> None:
        """Make a game whose cards count up to `highest`.

        Raises:
            ValueError: there is no such grammar.
        """
        if grammar not in GRAMMARS:
            raise ValueError(f"grammar must be one of {', '.join(map(repr, GRAMMARS))}, not {grammar!r}")
        self._tokens: tuple[Token, ...] = (*range(1, highest + 1), *self.symbols, EQUALS)
        super().__init__(actions=len(self._tokens), render_mode=render_mode)
        self._highest = highest
        self._grammar: Grammar = grammar
        self._cards: list[str] = []
        self._numbers: list[int] = []
        self._formula: list[Token] = []
        self._won_by: Grammar | None = None

    def _hold(self, cards: Sequence[str], formula: Sequence[Token] = ()) -> None:
        """Take a hand, and what has been spelled with it."""
        self._cards = list(cards)
        self._numbers = [deck.value(code, self._highest) for code in cards]
        self._formula = list(formula)
        self._won_by = None

    def _place(self, options: Mapping[str, Any]) -> None:
        check_keys(options, required=("cards",), optional=("formula",))
        cards = deck.cards(options, self.hand_size)
        self._check_deal(cards)
        self._hold(cards, self._started(options.get("formula", ()), cards))

    def _check_deal(self, cards: Sequence[str]) -> None:
        """Raise ResetOptionsError where these cards are never dealt; by default every hand is."""

    def _started(self, formula: Any, cards: Sequence[str]) -> list[Token]:
        """The formula of reset options, checked against the cards."""
        if not isinstance(formula, list | tuple) or len(formula) > self.longest + 1:
            limit = f"a list of at most {self.longest + 1} tokens"
            raise ResetOptionsError(f"reset option 'formula' must be {limit}, not {formula!r}")
        left = [deck.value(code, self._highest) for code in cards]
        tokens: list[Token] = []
        for token in formula:
            if isinstance(token, int | np.integer) and not isinstance(token, bool) and token in left:
                left.remove(int(token))
                tokens.append(int(token))
            elif isinstance(token, str) and token in (*self.symbols, BLANK):
                tokens.append(token)
            else:
                known = ", ".join(map(repr, (*self.symbols, BLANK)))
                raise ResetOptionsError(
                    f"reset option 'formula' holds {token!r}; after {tokens!r} the cards leave "
                    f"the numbers {left} and the symbols {known}"
                )
        return tokens

    def _play(self, action: int) -> tuple[float, bool, bool]:
        if len(self._formula) > self.longest:
            return -1.0, False, True
        token = self._tokens[action]
        if token == EQUALS:
            self._won_by = self._needed()
            return (10.0 if self._won_by else -1.0), True, False
        if isinstance(token, int) and self._formula.count(token) >= self._numbers.count(token):
            self._formula.append(BLANK)
            return -1.0, False, False
        self._formula.append(token)
        return 0.0, False, False

    def _needed(self) -> Grammar | None:
        """The plainest of the game's grammars in which the formula wins, None where it does not."""
        if sum(isinstance(token, int) for token in self._formula) != self.hand_size:
            return None
        plainest_first = GRAMMARS[: GRAMMARS.index(self._grammar) + 1]
        return next((one for one in plainest_first if evaluate(self._formula, one) == self.target), None)

    def _info(self) -> dict[str, Any]:
        info = {"Cards": list(self._cards), "Numbers": list(self._numbers), "Formula": list(self._formula)}
        return info | ({"Grammar": self._won_by} if self._won_by else {})
