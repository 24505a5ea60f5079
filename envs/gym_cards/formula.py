"""Formulas of the arithmetic games: what a list of tokens is worth, in bounded time and memory.

The published games (RL4VLM, arXiv 2405.10292) joined the tokens and let Python evaluate the text. That lets a
policy win by accidents of the notation, and hang the process. Two grammars take its place:

- "strict": whole numbers, `+ - * /`, brackets, and nothing else;
- "compatible": the same text has the same value as in Python, so that neighbouring digits form one number,
  `**` and `//` are powers and floors, and signs are allowed.

Numbers are Python's own in both, with binary floating point behind every division: 8/(3-8/3) falls short of
24 by a rounding error, as it did in the original.
"""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Grammar = Literal["strict", "compatible"]
GRAMMARS: tuple[Grammar, ...] = get_args(Grammar)
"""The plainer one first: what has a value in "strict" has the same in "compatible"."""

Token = int | str
"""A number, one of the symbols `+ - * / ( )`, or BLANK."""

BLANK = " "
"""What is left in a formula where an unavailable number was picked."""

Number = int | float | complex
"""A negative number to a fractional power is complex, as in Python."""

MAX_BITS = 4096
"""Whole numbers beyond this many bits have no value. A hand of four spends three cards to get there, and no
operator brings such a number and the fourth card back to a target, so no win of the original is lost."""

_MAX_DIGITS = MAX_BITS // 3
"""So many digits are more than MAX_BITS, whatever digits they are."""

_LEXEME = re.compile(r"\d+|\*\*|//|[-+*/()]")


def written(formula: Iterable[Token]) -> str:
    """The formula as one piece of text, blanks being spaces."""
    return "".join(map(str, formula))


def evaluate(formula: Sequence[Token], grammar: Grammar) -> Number | None:
    """The value of a formula, or None where it is malformed, divides by zero or grows beyond all bounds."""
    reading: Reading | None = Reading(signs=grammar == "compatible")
    for lexeme in _lexemes(formula, grammar):
        reading = reading.push(lexeme)
        if reading is None:
            return None
    return reading.value()


def _lexemes(formula: Sequence[Token], grammar: Grammar) -> Iterable[Token]:
    if grammar == "strict":
        return (token for token in formula if token != BLANK)
    # A blank keeps what stands beside it apart: "2 4" is no number and "* *" no power.
    pieces: list[str] = _LEXEME.findall(written(formula))
    return (int(piece[:_MAX_DIGITS]) if piece.isdigit() else piece for piece in pieces)


@dataclass(frozen=True, slots=True)
class _Operator:
    """A binary operator, or a sign (whose left operand is ignored)."""

    rank: int
    """Binds tighter where it is higher."""
    apply: Callable[[Number, Number], Number]
    rightward: bool = False
    """True where `a op b op c` means `a op (b op c)`."""


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        if exponent * base.bit_length() > MAX_BITS:
            raise OverflowError("a power beyond MAX_BITS is not computed")
    return base**exponent


_BINARY: dict[str, _Operator] = {
    "+": _Operator(1, operator.add),
    "-": _Operator(1, operator.sub),
    "*": _Operator(2, operator.mul),
    "/": _Operator(2, operator.truediv),
    "//": _Operator(2, operator.floordiv),
    "**": _Operator(4, _power, rightward=True),
}
_SIGNS: dict[str, _Operator] = {
    "+": _Operator(3, lambda _, number: number, rightward=True),
    "-": _Operator(3, lambda _, number: -number, rightward=True),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A formula read from the left up to some lexeme; immutable, so that a search can go on from it twice."""

    pending: tuple[tuple[Number, _Operator] | None, ...] = ()
    """Left operands that wait for their right one, outermost first; None stands for an open bracket."""
    operand: Number | None = None
    """The operand read last; None where one must come next."""
    signs: bool = False
    """Whether an operand may carry signs."""

    def push(self, lexeme: Token) -> "Reading | None":
        """The reading after one more lexeme; None where no formula that goes on from there has a value."""
        if isinstance(lexeme, int):
            fits = self.operand is None and lexeme.bit_length() <= MAX_BITS
            return replace(self, operand=lexeme) if fits else None
        if lexeme == "(":
            return replace(self, pending=(*self.pending, None)) if self.operand is None else None
        if self.operand is None:
            sign = _SIGNS.get(lexeme) if self.signs else None
            return replace(self, pending=(*self.pending, (0, sign))) if sign else None
        if lexeme == ")":
            folded = self._fold(0)
            return replace(folded, pending=folded.pending[:-1]) if folded and folded.pending else None
        found = _BINARY[lexeme]
        folded = self._fold(found.rank + found.rightward)
        if folded is None or folded.operand is None:
            return None
        return replace(folded, pending=(*folded.pending, (folded.operand, found)), operand=None)

    def value(self) -> Number | None:
        """The value, if the formula is complete."""
        if self.operand is None:
            return None
        folded = self._fold(0)
        return folded.operand if folded and not folded.pending else None

    def _fold(self, rank: int) -> "Reading | None":
        """Apply what waits within the innermost open bracket and binds at least as tightly as `rank`."""
        pending, operand = self.pending, self.operand
        assert operand is not None
        while pending and pending[-1] is not None and pending[-1][1].rank >= rank:
            left, waiting = pending[-1]
            try:
                operand = waiting.apply(left, operand)
            except (ArithmeticError, TypeError):  # division by zero, overflow; the floor of a complex number
                return None
            if isinstance(operand, int) and operand.bit_length() > MAX_BITS:
                return None
            pending = pending[:-1]
        return replace(self, pending=pending, operand=operand)
