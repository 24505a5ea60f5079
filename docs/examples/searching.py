"""Points24 with a chain of thought that searches: tries that fail, reckoned out to their end, before one that does not.

The task's own demonstrations state the solution at once, which a policy can only know by heart. Here a thought takes
two numbers of the hand, puts their result in their place, and goes on until one number is left:

    3 4 8 10: 10-4=6 3 6 8, 8-6=2 2 3, 2*3=6 no; 8/4=2 2 3 10, 10-2=8 3 8, 3*8=24 yes: (10-8/4)*3

Every step needs two numbers of what is there and one entry of a table of sums, in the hope that it comes out right for
hands that nobody has shown. What it brings has not been measured yet.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

import envs
from envs.gym_cards.formula import Token, written
from envs.gym_cards.points24 import Points24
from envs.gym_cards.points24_task import Points24Task

SEARCHING = "docs.examples.searching:SearchingPoints24"

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


class SearchingPoints24(Points24):
    """The game as it is; its name is what tells the two tasks apart."""


class SearchingPoints24Task(Points24Task):
    """The game in words, with demonstrations that search."""

    env_id = SEARCHING
    most_failures: ClassVar[int] = 3
    """Failed tries before the solution, at most; each further one is half as likely."""
    form_thoughts: ClassVar[str] = "<sorted cards>: <tries> yes: <whole formula>"

    _rng = np.random.default_rng(0)

    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """As the game's, failed tries being drawn from `rng`."""
        self._rng = rng
        return super().expert(info, rng, noise)

    def _thoughts(self, numbers: Sequence[int], plan: Sequence[Token] | None) -> str:
        hand = " ".join(map(str, sorted(numbers)))
        if not plan:
            return f"{hand}: none"
        failures = min(int(self._rng.geometric(0.5)) - 1, self.most_failures)
        tries = [f"{_told(_failure(numbers, self._rng))} no" for _ in range(failures)]
        return f"{hand}: {'; '.join([*tries, _told(_reckoned(plan, numbers)) + ' yes'])}: {written(plan)}"


Step = tuple[Fraction, str, Fraction, Fraction, list[Fraction]]
"""Left number, operator, right number, result, and the numbers that are left, the result among them."""


def _told(steps: Sequence[Step]) -> str:
    return ", ".join(
        f"{left}{symbol}{right}={result}" + "".join(f" {number}" for number in sorted(rest) if len(rest) > 1)
        for left, symbol, right, result, rest in steps
    )


def _failure(numbers: Sequence[int], rng: np.random.Generator) -> list[Step]:
    """A random way to one number that is not 24, over whole numbers that are not negative."""
    while True:
        left, steps = [Fraction(number) for number in numbers], []
        while len(left) > 1:
            first, second = rng.choice(len(left), size=2, replace=False)
            symbol = str(rng.choice(list(_PRECEDENCE)))
            one, other = left[first], left[second]
            if symbol == "/" and (other == 0 or (one / other).denominator > 1) or symbol == "-" and one < other:
                continue
            rest = [number for index, number in enumerate(left) if index not in (first, second)]
            left = [*rest, _APPLY[symbol](one, other)]
            steps.append((one, symbol, other, left[-1], left))
        if left[0] != Points24.target:
            return steps


def _reckoned(formula: Sequence[Token], numbers: Sequence[int]) -> list[Step]:
    """The steps of a formula, in the order in which operators are done."""
    left = [Fraction(number) for number in numbers]
    values: list[Fraction] = []
    waiting: list[str] = []
    steps: list[Step] = []

    def do() -> None:
        nonlocal left
        symbol, second, first = waiting.pop(), values.pop(), values.pop()
        result = _APPLY[symbol](first, second)
        left = left.copy()
        left.remove(first)
        left.remove(second)
        left.append(result)
        values.append(result)
        steps.append((first, symbol, second, result, left))

    for token in formula:
        if isinstance(token, int):
            values.append(Fraction(token))
        elif token == "(":
            waiting.append(token)
        elif token == ")":
            while waiting[-1] != "(":
                do()
            waiting.pop()
        else:
            while waiting and waiting[-1] != "(" and _PRECEDENCE[waiting[-1]] >= _PRECEDENCE[token]:
                do()
            waiting.append(token)
    while waiting:
        do()
    return steps


if __name__ == "__main__":
    env, task = envs.make(SEARCHING)
    _, state = env.reset(seed=0)
    for seed in range(4):
        print(task.expert(state, np.random.default_rng(seed)))
