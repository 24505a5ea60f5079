"""The shortest way to finish a formula that has been begun, in plain arithmetic."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from envs.gym_cards.formula import BLANK, Reading, Token

_MAX_BRACKETS = 2
"""Pairs of brackets that three operators can need beyond those which are open."""


@lru_cache(maxsize=65536)
def complete(
    formula: tuple[Token, ...], numbers: tuple[int, ...], target: int, symbols: str, longest: int
) -> tuple[Token, ...] | None:
    """The formula with the fewest tokens that begins like this one, uses every number once and is worth the target.

    Args:
        formula: what has been spelled, blanks included; it holds only numbers that are in `numbers`.
        numbers: what the cards count. Of equally short ways the one that takes numbers in this order is found.
        target: the value to reach.
        symbols: operators and brackets that the game has, in order of preference.
        longest: tokens that the finished formula may hold, blanks included.

    Returns:
        The whole formula without blanks, or None where there is no way.
    """
    begun = tuple(token for token in formula if token != BLANK)
    reading: Reading | None = Reading()
    left = list(numbers)
    for token in begun:
        if isinstance(token, int):
            left.remove(token)
        reading = reading.push(token)
        if reading is None:
            return None
    for pairs in range(_MAX_BRACKETS + 1 if "(" in symbols else 1):
        rest = _Search(target, symbols).find(reading, tuple(left), pairs)
        if rest is not None:
            # More pairs of brackets only make it longer.
            return (*begun, *rest) if len(formula) + len(rest) <= longest else None
    return None


class _Search:
    """Depth-first search over the tokens that may come next; a dead end is entered once."""

    def __init__(self, target: int, symbols: str) -> None:
        self._target = target
        self._symbols = symbols
        self._dead: set[tuple[Reading, tuple[int, ...], int]] = set()

    def find(self, reading: Reading, left: tuple[int, ...], pairs: int) -> tuple[Token, ...] | None:
        """Tokens that finish the formula with the numbers `left`, opening at most `pairs` pairs of brackets."""
        if not left and reading.value() == self._target:
            return ()
        state = (reading, left, pairs)
        if state in self._dead:
            return None
        for token in self._next(reading, left, pairs):
            after = reading.push(token)
            if after is not None:
                rest = self.find(after, _without(left, token), pairs - (token == "("))
                if rest is not None:
                    return (token, *rest)
        self._dead.add(state)
        return None

    def _next(self, reading: Reading, left: Sequence[int], pairs: int) -> Iterator[Token]:
        if reading.operand is None:
            yield from dict.fromkeys(left)
            if pairs and left:
                yield "("
            return
        for symbol in self._symbols:
            if symbol == ")" or (left and symbol != "("):
                yield symbol


def _without(left: tuple[int, ...], token: Token) -> tuple[int, ...]:
    if not isinstance(token, int):
        return left
    at = left.index(token)
    return left[:at] + left[at + 1 :]
