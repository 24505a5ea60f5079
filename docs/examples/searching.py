"""Points24 with a chain of thought that searches, so that hands can be solved that nobody has shown.

The task's own demonstrations state the solution at once, which a policy can only know by heart. Here a thought tries
first steps in a random order, writes down the three numbers that each leaves, and says whether 24 is still within reach
of them; from the first three that are, it reckons on:

    4 7 9 10: 7-4 3 9 10 no; 10-4 6 7 9 no; 9-7 2 4 10 yes; 10*2 4 20; 20+4 24: 10*(9-7)+4

What has to be known by heart are single steps and the verdict on three numbers, and hands have those in common. The
order is random, for a search that is the same at every showing of a hand is a text to be learnt by heart, too. Results
below zero and fractions are not looked at: 9 of the 565 hands that can be solved need them. docs/recipes.md tells what
the search brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any, ClassVar, NamedTuple

import numpy as np

import envs
from envs.gym_cards.formula import BLANK, Token, written
from envs.gym_cards.points24 import Points24
from envs.gym_cards.points24_task import Points24Task

SEARCHING = "docs.examples.searching:SearchingPoints24"

MOST_FAILURES = 12
"""After so many first steps that lead nowhere no more are told."""

_BINDING = {"+": 0, "-": 0, "*": 1, "/": 1}
_ATOM = 2


class SearchingPoints24(Points24):
    """The game as it is; its name is what tells the two tasks apart."""


class SearchingPoints24Task(Points24Task):
    """The game in words, with demonstrations that search."""

    env_id = SEARCHING
    form_thoughts: ClassVar[str] = "<sorted cards>: <first step> <what is left> no; ... yes; ...: <whole formula>"
    hopeless_think: ClassVar[str] = 'think "<sorted cards>: <first steps> none" and '

    _rng = np.random.default_rng(0)
    _told = ""

    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """As the game's; `rng` decides on the order of the search."""
        self._rng = rng
        return super().expert(info, rng, noise)

    def _plan(self, formula: Sequence[Token], numbers: Sequence[int]) -> tuple[Token, ...] | None:
        """What a search finds that goes on from the formula; where none does, the game's own plan."""
        if BLANK not in formula:
            told, found = search(numbers, tuple(formula), self._rng)
            if found or not formula:
                self._told = told
                return found
        plan = super()._plan(formula, numbers)
        self._told = written(plan) if plan else "none"
        return plan

    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        return f"{' '.join(map(str, sorted(numbers)))}: {self._told}"


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


def search(
    numbers: Sequence[int], begun: tuple[Token, ...], rng: np.random.Generator
) -> tuple[str, tuple[Token, ...] | None]:
    """Try first steps in random order until one leads to a formula that begins like this.

    Returns:
        What the search tells, and the whole formula; None where there is none.
    """
    steps = _first_steps(tuple(sorted(numbers)))
    told: list[str] = []
    for place in rng.permutation(len(steps)):
        step, ways = steps[place]
        fitting = [way for way in ways if way[-1].rest[0].tokens[: len(begun)] == begun]
        if fitting:
            way = fitting[rng.integers(len(fitting))]
            formula = way[-1].rest[0].tokens
            told += [f"{step} yes", *map(str, way)]
            return f"{'; '.join(told)}: {written(formula)}", formula
        if not ways and len(told) < MOST_FAILURES:
            told.append(f"{step} no")
    return "; ".join([*told, "none"]), None


@cache
def _first_steps(hand: tuple[int, ...]) -> list[tuple[Step, list[list[Step]]]]:
    """Every first step, and the ways on from it that end at 24."""
    steps = _steps(tuple(Term(value, (value,)) for value in hand))
    return [(step, list(_ways(step.rest))) for step in steps]


def _ways(terms: tuple[Term, ...]) -> Iterator[list[Step]]:
    for step in _steps(terms):
        if len(step.rest) == 1 and step.values[0] == Points24.target:
            yield [step]
        elif len(step.rest) > 1:
            yield from ([step, *way] for way in _ways(step.rest))


def _steps(terms: tuple[Term, ...]) -> Iterator[Step]:
    """All ways to make two numbers one, what leaves the same numbers but once."""
    seen: set[tuple[int, ...]] = set()
    for symbol in _BINDING:
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
