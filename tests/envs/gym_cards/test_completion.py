from itertools import product
from typing import Any

import numpy as np
import pytest

from envs.gym_cards.completion import complete
from tests.envs.gym_cards import formula_reference as reference

EZ_POINTS: dict[str, Any] = dict(target=12, symbols="+*", longest=5)
POINTS24: dict[str, Any] = dict(target=24, symbols="+-*/()", longest=20)


def shortest_by_trying_all(formula, numbers, target, symbols, longest, most=5):
    """Length of the shortest finished formula, blanks left out, among all ways to add up to `most` tokens."""
    left = list(numbers)
    for token in formula:
        if isinstance(token, int):
            left.remove(token)
    for more in range(min(most, longest - len(formula)) + 1):
        for tail in product((*sorted(set(left)), *symbols), repeat=more):
            if sorted(token for token in tail if isinstance(token, int)) == sorted(left):
                if reference.value([*formula, *tail], "strict") == target:
                    return len([token for token in (*formula, *tail) if token != " "])
    return None


@pytest.mark.parametrize("numbers", [(4, 8), (8, 4), (3, 4), (2, 6), (6, 6), (2, 10)])
def test_every_state_of_ez_points_is_finished_at_once_or_rightly_given_up(numbers):
    """All formulas of up to four tokens."""
    alive = 0
    for length in range(5):
        for formula in product((*sorted(set(numbers)), "+", "*", " "), repeat=length):
            if all(formula.count(number) <= numbers.count(number) for number in set(numbers)):
                found = complete(formula, numbers, **EZ_POINTS)
                expected = shortest_by_trying_all(formula, numbers, **EZ_POINTS)
                assert (None if found is None else len(found)) == expected, formula
                alive += found is not None
    assert alive > 10


def check(found, formula, numbers, longest):
    begun = tuple(token for token in formula if token != " ")
    assert found[: len(begun)] == begun and " " not in found
    assert sorted(token for token in found if isinstance(token, int)) == sorted(numbers)
    assert reference.value(found, "strict") == 24
    assert len(formula) - len(begun) + len(found) <= longest


def test_late_states_of_points24_agree_with_trying_all():
    rng, alive, dead = np.random.default_rng(4), 0, 0
    wins = [((2, 6, 8, 10), ["(", 10, "+", 2, "-", 8, ")", "*", 6]), ((4, 6, 10, 10), [4, "*", 6, "*", 10, "/", 10])]
    wins += [((1, 4, 10, 10), ["(", 10, "*", 10, "-", 4, ")", "/", 4]), ((2, 3, 5, 8), [8, "*", 2, "+", 5, "+", 3])]
    for index in range(160):
        numbers, win = wins[index % 4]
        numbers = tuple(sorted(token for token in win if isinstance(token, int)))
        formula = win[: len(win) - int(rng.integers(4))]
        if index % 3:
            formula = reference.disturbed(formula[:-1], reference.POINTS24, rng)
        left = len(numbers) - sum(isinstance(token, int) for token in formula)
        if left > 2:
            continue
        found = complete(tuple(formula), numbers, **POINTS24)
        expected = shortest_by_trying_all(formula, numbers, **POINTS24, most=4)
        if expected is None:
            assert found is None or len(found) > 4 + sum(token != " " for token in formula), (numbers, formula)
            dead += found is None
        else:
            assert found is not None and len(found) == expected, (numbers, formula)
            check(found, formula, numbers, 20)
            alive += 1
    assert alive > 30 and dead > 30


def test_every_beginning_of_a_winner_can_be_finished_no_longer_than_it():
    winner = ["(", "(", 8, "-", 3, ")", "*", "(", 5, ")", "-", 1, ")"]  # needless brackets and all
    for length in range(len(winner) + 1):
        found = complete(tuple(winner[:length]), (1, 3, 5, 8), **POINTS24)
        assert found is not None and len(found) <= len(winner)
        check(found, winner[:length], (1, 3, 5, 8), 20)


@pytest.mark.parametrize(
    ("formula", "numbers", "found"),
    [
        ((), (4, 8), "4+8"),  # in the order of the cards
        ((), (8, 4), "8+4"),
        ((), (3, 4), "3*4"),
        ((4,), (8, 4), "4+8"),
        ((4, " "), (8, 4), "4+8"),
        ((" ", 4), (8, 4), "4+8"),
        ((4, " ", " "), (8, 4), "4+8"),  # five tokens, blanks included, can be submitted
        ((4, " ", " ", " "), (8, 4), None),
        ((4, "+"), (8, 4), "4+8"),
        ((4, "+", " "), (8, 4), "4+8"),
        ((4, "+", " ", " "), (8, 4), "4+8"),
        ((4, "+", " ", " ", " "), (8, 4), None),
        ((4, "*"), (8, 4), None),
        (("+",), (8, 4), None),
        ((4, 8), (8, 4), None),
        ((4, "+", 8), (8, 4), "4+8"),
        ((4, "+", 8, " ", " "), (8, 4), "4+8"),
        ((4, "+", 8, " ", " ", " "), (8, 4), None),
    ],
)
def test_plans_case_by_case(formula, numbers, found):
    plan = complete(formula, numbers, **EZ_POINTS)
    assert (None if plan is None else "".join(map(str, plan))) == found


def test_a_plan_must_fit_with_the_blanks():
    """20 tokens can be submitted: 7 of a plan and 13 blanks, but not 14."""
    for blanks, fits in ((13, True), (14, False)):
        found = complete((" ",) * blanks, (1, 2, 3, 4), **POINTS24)
        assert (found is not None) == fits


def test_three_threes_and_eights_are_lost_to_rounding():
    assert complete((8, "/"), (3, 3, 8, 8), **POINTS24) is None
