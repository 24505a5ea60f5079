"""Solutions of Points24: one canonical formula per hand, and the way on from any formula that has been begun.

Of all formulas that make 24 of a hand in plain arithmetic, the canonical one has the fewest brackets, then the
fewest "/" and "-", then the fewest results below zero on the way, then comes first when tokens are compared by
their action indices. A hand is solved when it is first met, in about a millisecond, and remembered.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from envs.gym_cards.completion import complete
from envs.gym_cards.formula import BLANK, Token
from envs.gym_cards.points24 import Points24

Hand = tuple[int, ...]
"""What the cards count, in ascending order."""

_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_SUM, _PRODUCT, _ATOM = range(3)
"""How tightly a formula holds together, by its outermost operator; a number is an atom."""
_BINDING = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT}


class _Term(NamedTuple):
    """A formula of some of the cards; the smaller tuple is the better formula."""

    brackets: int
    inverses: int
    """How many "/" and "-" there are."""
    negatives: int
    """How many of its operators give a result below zero."""
    ranks: tuple[int, ...]
    """The tokens by their action indices, to compare by."""
    tokens: tuple[Token, ...]


def plan(formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
    """The whole formula to aim at after `formula`, without blanks; None where 24 is out of reach.

    It is the hand's canonical solution while the formula follows it, else the shortest way on.
    """
    hand = tuple(sorted(numbers))
    canonical = solution(hand)
    if canonical is None:
        return None
    begun = tuple(token for token in formula if token != BLANK)
    if begun == canonical[: len(begun)]:
        # If this does not fit, nothing does: solutions differ in length by their brackets alone.
        fits = len(formula) - len(begun) + len(canonical) <= Points24.longest
        return canonical if fits else None
    return complete(tuple(formula), hand, Points24.target, Points24.symbols, Points24.longest)


@cache
def solution(hand: Hand) -> tuple[Token, ...] | None:
    """The canonical formula of a hand, or None if there is none."""
    found = (term for value, _, term in _joined(hand, wanted=Points24.target))
    return min(found, default=_Term(0, 0, 0, (), ())).tokens or None


@lru_cache(maxsize=128)
def _terms(hand: Hand) -> dict[tuple[float, int], _Term]:
    """(value, binding) -> the best formula, for all values that exactly these cards can make."""
    if len(hand) == 1:
        return {(hand[0], _ATOM): _Term(0, 0, 0, _ranks(hand), hand)}
    best: dict[tuple[float, int], _Term] = {}
    for value, binding, term in _joined(hand):
        known = best.get((value, binding))
        if known is None or term < known:
            best[value, binding] = term
    return best


def _joined(hand: Hand, wanted: int | None = None) -> Iterator[tuple[float, int, _Term]]:
    """Value, binding and formula of all ways to join two formulas that share out the cards between them.

    The best formulas of the parts make the best one of the whole: what is counted adds up, and formulas with
    the same number of brackets are equally long, so that the first of each part comes first in the whole.
    Values are computed in the order in which the formula is read, rounding errors included.
    """
    for left_cards, right_cards in _splits(hand):
        for (left, left_binding), left_term in _terms(left_cards).items():
            for (right, right_binding), right_term in _terms(right_cards).items():
                for symbol, apply in _OPERATORS.items():
                    if symbol == "/" and right == 0:
                        continue
                    value = apply(left, right)
                    if wanted is None or value == wanted:
                        binding = _BINDING[symbol]
                        one = _bracketed(left_term) if left_binding < binding else left_term
                        two = _bracketed(right_term) if right_binding <= binding else right_term
                        yield value, binding, _with_operator(one, symbol, two, value < 0)


def _splits(hand: Hand) -> set[tuple[Hand, Hand]]:
    """All ways to share out the cards between two sides, neither of them empty."""
    sides = [[index for index in range(len(hand)) if mask >> index & 1] for mask in range(1, 2 ** len(hand) - 1)]
    return {
        (
            tuple(hand[index] for index in side),
            tuple(card for index, card in enumerate(hand) if index not in side),
        )
        for side in sides
    }


def _with_operator(left: _Term, symbol: str, right: _Term, negative: bool) -> _Term:
    return _Term(
        left.brackets + right.brackets,
        left.inverses + right.inverses + (symbol in "-/"),
        left.negatives + right.negatives + negative,
        left.ranks + _ranks((symbol,)) + right.ranks,
        (*left.tokens, symbol, *right.tokens),
    )


def _bracketed(term: _Term) -> _Term:
    ranks = _ranks(("(",)) + term.ranks + _ranks((")",))
    return _Term(term.brackets + 1, term.inverses, term.negatives, ranks, ("(", *term.tokens, ")"))


def _ranks(tokens: Sequence[Token]) -> tuple[int, ...]:
    """Numbers in their order, then the symbols in theirs."""
    return tuple(token if isinstance(token, int) else 100 + Points24.symbols.index(token) for token in tokens)
