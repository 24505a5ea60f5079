"""Which rows each process of a group passes through the model: equal shares, and equal states in one hand.

Rows that show the same state to the policy share the work on their prompt and its pictures. So they go to one process,
and to the same one in every minibatch, as far as the shares stay even.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from learner.batching import State, microbatches
from learner.parallel.group import Group

_HANDS_PER_SHARE = 4
"""A share is dealt in at least so many parts; with larger ones it could not be even."""


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One forward pass of one process."""

    rows: np.ndarray
    """int [B]: indices of its rows."""
    counts: bool = True
    """Whether the rows are this process's own. A pass that does not count is there because sharded weights are
    gathered in every pass, by all processes at once: none may make fewer passes than another."""

    @property
    def weight(self) -> float:
        """Factor on the loss of the pass."""
        return float(self.counts)


def deal_passes(
    group: Group,
    lengths: np.ndarray,
    index: np.ndarray,
    token_budget: int,
    state_of: Callable[[int], State] | None = None,
) -> list[Pass]:
    """The passes of this process over its share of the rows at `index`; equally many in every process.

    Args:
        group: the processes; each must be asked with the same arguments.
        lengths: tokens of every row, int [N].
        index: rows to pass through the model, int [M].
        token_budget: bound on the tokens of one pass.
        state_of: state of a row; None where all are different.

    Returns:
        Passes whose counting rows, over all processes, hold every entry of `index` once. With M >= 1 there is at
        least one, if need be one that does not count.
    """
    if group.size == 1:
        return [Pass(rows) for rows in microbatches(lengths, index, token_budget, state_of)]
    shares = _shares(lengths, index, group.size, state_of)
    dealt = [microbatches(lengths, share, token_budget, state_of) if len(share) else [] for share in shares]
    own = [Pass(rows) for rows in dealt[group.rank]]
    missing = max(map(len, dealt)) - len(own)
    shortest = index[np.argsort(lengths[index], kind="stable")][:1]
    return own + [Pass(shortest, counts=False)] * missing


@dataclass(frozen=True, slots=True, eq=False)
class _Hand:
    """Rows that are dealt together."""

    rows: list[int]
    tokens: int
    home: int
    """The process that they go to if its share has room."""


def _shares(
    lengths: np.ndarray, index: np.ndarray, size: int, state_of: Callable[[int], State] | None
) -> list[np.ndarray]:
    """Rows of each process: as many tokens for each, as far as the rows go."""
    fair = float(lengths[index].sum()) / size
    shares: list[list[int]] = [[] for _ in range(size)]
    held = [0] * size
    homeless: list[_Hand] = []

    def give(hand: _Hand, rank: int) -> None:
        shares[rank] += hand.rows
        held[rank] += hand.tokens

    # The long ones first: the short ones then fill what is left.
    for hand in sorted(_hands(lengths, index, size, fair, state_of), key=lambda hand: -hand.tokens):
        if held[hand.home] + hand.tokens <= fair:
            give(hand, hand.home)
        else:
            homeless.append(hand)
    for hand in homeless:
        give(hand, held.index(min(held)))
    return [np.array(share, dtype=index.dtype) for share in shares]


def _hands(
    lengths: np.ndarray, index: np.ndarray, size: int, fair: float, state_of: Callable[[int], State] | None
) -> list[_Hand]:
    """Rows by state, where a state that is much of a share is cut into parts."""
    together: dict[State | int, list[int]] = {}
    for row in index.tolist():
        together.setdefault(row if state_of is None else state_of(row), []).append(row)
    hands = []
    for number, (state, rows) in enumerate(together.items()):
        home = number if isinstance(state, int) else _checksum(state)
        tokens = int(lengths[rows].sum())
        count = min(len(rows), math.ceil(_HANDS_PER_SHARE * tokens / fair))
        for place, part in enumerate(np.array_split(np.array(rows), count)):
            hands.append(_Hand(part.tolist(), int(lengths[part].sum()), (home + place // _HANDS_PER_SHARE) % size))
    return hands


def _checksum(state: State) -> int:
    """The same in every process and every run, unlike Python's hash."""
    prompt, pictures = state
    return zlib.crc32(b"".join((prompt, *pictures)))
