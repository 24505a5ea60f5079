"""Guesses how responses go on from how recent responses went on, for speculative decoding.

Responses of one policy repeat themselves: the field names of the answer, whole thoughts, the names of actions. What
followed the same few tokens before is likely to follow again. The engine checks every guess against the policy and
keeps or redraws it such that responses are distributed as without guesses (Leviathan et al., arXiv 2211.17192, with a
draft that is certain of itself); a bad guess costs time, nothing else.

The idea of drafting from earlier text is that of prompt lookup and suffix decoding (Oliaro et al., arXiv 2411.04975).
Deviations: contexts of fixed lengths in a table instead of a suffix tree; of each context the one token that holds the
majority (Boyer and Moore 1981) instead of all that followed, so that a policy's newer habits soon outvote older ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_Context = tuple[int, ...]


class _Follower(NamedTuple):
    """What follows a context."""

    token: int
    times: int
    """How often it was this token,"""
    of: int
    """and how often any, since this one took the place of another."""


_NOTHING = _Follower(-1, 0, 1)


class Drafter:
    """A table from the last tokens of a text to the token that followed, of the most recent texts.

    Args:
        length: Most tokens of a draft.
        contexts: Lengths of the contexts that are looked up, longest first.
        least_chance: A draft ends where the chance that the engine accepts it that far, by the table, falls below.
        most_contexts: Contexts remembered before the older half is forgotten; each takes some 300 bytes.
    """

    def __init__(
        self,
        length: int,
        contexts: Sequence[int] = (16, 6, 3),
        least_chance: float = 0.3,
        most_contexts: int = 100_000,
    ) -> None:
        self.length = length
        self._contexts = tuple(contexts)
        self._least_chance = least_chance
        self._half = most_contexts // 2
        self._young: dict[_Context, _Follower] = {}
        self._old: dict[_Context, _Follower] = {}

    @property
    def reach(self) -> int:
        """Tokens before a token that matter to it."""
        return self._contexts[0]

    def learn(self, tokens: Sequence[int], new: int) -> None:
        """Remembers the last `new` tokens of a text, each after the tokens before it."""
        for end in range(max(len(tokens) - new, 1), len(tokens)):
            for size in self._contexts:
                if size <= end:
                    self._note(tuple(tokens[end - size : end]), tokens[end])

    def draft(self, tokens: Sequence[int]) -> list[int]:
        """The likely next tokens of a text, at most `length` of them, none where nothing is likely enough."""
        text = list(tokens)
        chance = 1.0
        while len(text) - len(tokens) < self.length:
            next_one = self._likeliest(text)
            chance *= next_one.times / next_one.of
            if chance < self._least_chance:
                break
            text.append(next_one.token)
        return text[len(tokens) :]

    def _likeliest(self, text: list[int]) -> _Follower:
        """The longest known context decides."""
        for size in self._contexts:
            context = tuple(text[-size:])
            known = self._young.get(context) or self._old.get(context)
            if known:
                return known
        return _NOTHING

    def _note(self, context: _Context, token: int) -> None:
        """One more token behind a context. What is met again moves from the older half of the table to the younger."""
        known = self._young.get(context)
        if known is None:
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
            known = self._old.pop(context, None)
        if known is None:
            known = _Follower(token, 1, 1)
        elif known.token == token:
            known = _Follower(token, known.times + 1, known.of + 1)
        elif 2 * known.times > known.of + 1:
            known = _Follower(known.token, known.times, known.of + 1)
        else:
            known = _Follower(token, 1, 2)
        self._young[context] = known
