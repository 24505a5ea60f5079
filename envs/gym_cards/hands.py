"""A fixed tenth of all hands, kept apart to tell arithmetic from memory.

A hand is what the cards count, whatever their order and suits. Which hands are held out depends on nothing but the
hand, so training and evaluation agree on them without a file.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

Hands = Literal["all", "train", "held_out"]
"""Which hands are dealt: all, the nine tenths to learn from, or the tenth that is held out."""

HANDS: tuple[Hands, ...] = get_args(Hands)

_FOLDS = 10


def is_held_out(numbers: Sequence[int]) -> bool:
    """Whether the hand with these numbers, in any order, belongs to the tenth that is held out."""
    name = " ".join(map(str, sorted(numbers)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % _FOLDS == 0


def is_dealt(numbers: Sequence[int], hands: Hands) -> bool:
    """Whether a game that deals `hands` deals this one."""
    return hands == "all" or is_held_out(numbers) == (hands == "held_out")
