"""Points24 with a chain of thought that searches, so that hands can be solved that nobody has shown.

The task's own demonstrations state the solution at once, which a policy can only know by heart. Here a thought tries
one first step after the other, writes down the three numbers that it leaves, and says whether 24 is still within reach
of them; from the first three that are, it reckons on:

    4 7 9 10: 7-4 3 9 10 no; 9-4 5 7 10 no; 10-4 6 7 9 no; 9-7 2 4 10 yes; 10*2 4 20; 20+4 24: 10*(9-7)+4

What has to be known by heart are single steps and the verdict on three numbers, and hands have those in common. What it
brings is in docs/recipes.md.
Results below zero and fractions are not looked at: 9 of the 565 hands that can be solved need them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from typing import ClassVar, NamedTuple

import numpy as np

import envs
from envs.gym_cards.formula import BLANK, Token, written
from envs.gym_cards.points24 import Points24
from envs.gym_cards.points24_task import Points24Task

SEARCHING = "docs.examples.searching:SearchingPoints24"

MOST_TRIES = 12
"""After so many first steps that lead nowhere the thought gives up."""

_ORDER = "/-+*"
"""Which steps are tried first: in this order it takes 3.2 tries on average over the deals that can be solved."""
_BINDING = {"+": 0, "-": 0, "*": 1, "/": 1}
_ATOM = 2


class SearchingPoints24(Points24):
    """The game as it is; its name is what tells the two tasks apart."""


class SearchingPoints24Task(Points24Task):
    """The game in words, with demonstrations that search."""

    env_id = SEARCHING
    form_thoughts: ClassVar[str] = "<sorted cards>: <first step> <what is left> no; ... yes; ...: <whole formula>"
    hopeless_think: ClassVar[str] = 'think "<sorted cards>: <first steps> none" and '

    def _plan(self, formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
        """What the search finds, while the formula follows it; else the game's own plan."""
        begun = tuple(token for token in formula if token != BLANK)
        found = search(numbers).formula
        if len(begun) == len(formula) and begun == found[: len(begun)]:
            return found or None
        return super()._plan(formula, numbers)

    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        hand = " ".join(map(str, sorted(numbers)))
        found = search(numbers)
        if tuple(plan or ()) == found.formula:
            return f"{hand}: {found.told}"
        return f"{hand}: {written(plan)}" if plan else f"{hand}: none"


class Term(NamedTuple):
    """A whole number that has been made, and the formula that makes it."""

    value: int
    tokens: tuple[Token, ...]
    binding: int = _ATOM


class Step(NamedTuple):
    """Two numbers made one."""

    left: Term
    symbol: str
    right: Term
    rest: tuple[Term, ...]
    """All numbers that are there afterwards, in ascending order."""

    @property
    def values(self) -> tuple[int, ...]:
        """What those numbers are."""
        return tuple(term.value for term in self.rest)

    def __str__(self) -> str:
        return f"{self.left.value}{self.symbol}{self.right.value} {' '.join(map(str, self.values))}"


class Found(NamedTuple):
    """What a search tells, and the formula that it ends with; empty where it gives up."""

    told: str
    formula: tuple[Token, ...]


def search(numbers: Sequence[int]) -> Found:
    """Try first steps in their order until 24 is within reach of what is left, then go there."""
    return _search(tuple(sorted(numbers)))


@cache
def _search(hand: tuple[int, ...]) -> Found:
    terms: tuple[Term, ...] = tuple(Term(value, (value,)) for value in hand)
    told: list[str] = []
    for step in _steps(terms):
        if len(told) == MOST_TRIES:
            break
        if not within_reach(step.values):
            told.append(f"{step} no")
            continue
        told.append(f"{step} yes")
        while len(step.rest) > 1:
            step = next(after for after in _steps(step.rest) if within_reach(after.values))
            told.append(str(step))
        (last,) = step.rest
        return Found(f"{'; '.join(told)}: {written(last.tokens)}", last.tokens)
    return Found("; ".join([*told, "none"]), ())


@cache
def within_reach(numbers: tuple[int, ...]) -> bool:
    """Whether 24 can be made of these numbers by steps over whole numbers that are not negative."""
    if len(numbers) == 1:
        return numbers[0] == Points24.target
    return any(within_reach(step.values) for step in _steps(tuple(Term(value, (value,)) for value in numbers)))


def _steps(terms: tuple[Term, ...]) -> Iterator[Step]:
    """All ways to make two numbers one, what leaves the same numbers but once."""
    seen: set[tuple[int, ...]] = set()
    for symbol in _ORDER:
        for small, large in combinations(range(len(terms)), 2):  # the terms are in ascending order
            left, right = terms[large], terms[small]
            if symbol == "/" and (right.value == 0 or left.value % right.value):
                continue
            others = [term for place, term in enumerate(terms) if place not in (small, large)]
            rest = sorted([*others, _joined(left, symbol, right)], key=lambda term: term.value)
            step = Step(left, symbol, right, tuple(rest))
            if step.values not in seen:
                seen.add(step.values)
                yield step


def _joined(left: Term, symbol: str, right: Term) -> Term:
    one, other, binding = left.value, right.value, _BINDING[symbol]
    value = {"+": one + other, "-": one - other, "*": one * other, "/": one // (other or 1)}[symbol]
    left_tokens = left.tokens if left.binding >= binding else ("(", *left.tokens, ")")
    fits = right.binding > binding or (right.binding == binding and symbol in "+*")
    right_tokens = right.tokens if fits else ("(", *right.tokens, ")")
    return Term(value, (*left_tokens, symbol, *right_tokens), binding)


if __name__ == "__main__":
    env, task = envs.make(SEARCHING)
    for seed in range(4):
        _, state = env.reset(seed=seed)
        print(task.expert(state, np.random.default_rng(seed)))
