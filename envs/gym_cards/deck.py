"""Playing cards as two-character codes: suit letter, then rank, such as "H4", "ST" or "DK"."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from envs.errors import ResetOptionsError

SUITS = "HSDC"
"""Hearts, spades, diamonds, clubs."""

RANKS = "A23456789TJQK"
"""Ace to king; T is the ten."""

CODES = frozenset(suit + rank for suit in SUITS for rank in RANKS)


def value(code: str, highest: int = 10) -> int:
    """What a card counts: 1 for the ace, its place in the suit otherwise, but never more than `highest`."""
    return min(RANKS.index(code[1]) + 1, highest)


def cards(options: Mapping[str, Any], count: int) -> list[str]:
    """The `count` card codes of `options["cards"]`.

    Raises:
        ResetOptionsError: it is no list of so many codes; the message names the card at fault.
    """
    found = options["cards"]
    if not isinstance(found, list | tuple) or len(found) != count:
        raise ResetOptionsError(f"reset option 'cards' must be a list of {count} codes like 'H4', not {found!r}")
    for code in found:
        if not isinstance(code, str) or code not in CODES:
            near = get_close_matches(str(code).upper().replace("10", "T"), CODES, n=1, cutoff=0.9)
            hint = f"did you mean {near[0]!r}?" if near else f"write a suit of {SUITS} and a rank of {RANKS}"
            raise ResetOptionsError(f"reset option 'cards' holds {code!r}; {hint}")
    return list(found)
