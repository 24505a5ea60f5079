"""Guesses how responses go on from how recent responses went on, for speculative decoding.

Responses of one policy repeat themselves: the field names of the answer, whole thoughts, the names of actions. What
followed the same few tokens before is likely to follow again. The engine checks every guess against the policy and
keeps or redraws it such that responses are distributed as without guesses (Leviathan et al., arXiv 2211.17192, with a
draft that is certain of itself); a bad guess costs time, nothing else.

The idea of drafting from earlier text is that of prompt lookup and suffix decoding (Oliaro et al., arXiv 2411.04975).
Deviation: contexts of fixed lengths in a table instead of a suffix tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_Context = tuple[int, ...]


class Drafter:
    """A table from the last tokens of a text to the token that followed, of the most recent texts.

    Args:
        length: Most tokens of a draft.
        contexts: Lengths of the contexts that are looked up, longest first.
        least_chance: A draft ends where the chance that the engine accepts it that far, by the table, falls below.
        most_contexts: Contexts remembered before the older half is forgotten.
    """

    def __init__(
        self,
        length: int,
        contexts: Sequence[int] = (20, 8, 3),
        least_chance: float = 0.3,
        most_contexts: int = 200_000,
    ) -> None:
        self.length = length
        self._contexts = tuple(contexts)
        self._least_chance = least_chance
        self._half = most_contexts // 2
        self._young: dict[_Context, Counter[int]] = {}
        self._old: dict[_Context, Counter[int]] = {}

    @property
    def reach(self) -> int:
        """Tokens before a token that matter to it."""
        return self._contexts[0]

    def learn(self, tokens: Sequence[int], new: int) -> None:
        """Remembers the last `new` tokens of a text, each after the tokens before it."""
        for end in range(max(len(tokens) - new, 1), len(tokens)):
            for size in self._contexts:
                if size <= end:
                    self._followers(tuple(tokens[end - size : end]))[tokens[end]] += 1

    def draft(self, tokens: Sequence[int]) -> list[int]:
        """The likely next tokens of a text, at most `length` of them, none where nothing is likely enough."""
        text = list(tokens)
        chance = 1.0
        while len(text) - len(tokens) < self.length:
            token, share = self._likeliest(text)
            chance *= share
            if chance < self._least_chance:
                break
            text.append(token)
        return text[len(tokens) :]

    def _likeliest(self, text: list[int]) -> tuple[int, float]:
        """The token that followed most often, and its share; the longest known context decides."""
        for size in self._contexts:
            context = tuple(text[-size:])
            followers = self._young.get(context) or self._old.get(context)
            if followers:
                token, times = max(followers.items(), key=lambda follower: follower[1])
                return token, times / followers.total()
        return -1, 0.0

    def _followers(self, context: _Context) -> Counter[int]:
        """What followed a context; looked up in the older half it comes back into the younger one."""
        followers = self._young.get(context)
        if followers is None:
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
            followers = self._young[context] = self._old.pop(context, None) or Counter()
        return followers
