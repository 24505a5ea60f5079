import ast
from functools import cache
from itertools import combinations, combinations_with_replacement, permutations, product
from math import factorial, prod

import numpy as np
import pytest

from envs.gym_cards.formula import evaluate
from envs.gym_cards.solver import plan, solution
from tests.envs.gym_cards import formula_reference as reference

HANDS = list(combinations_with_replacement(range(1, 11), 4))
SYMBOLS = "+-*/()"


def deals(hand):
    """Ordered deals out of 13^4 that show these values."""
    orders = factorial(4) // prod(factorial(hand.count(value)) for value in set(hand))
    return orders * 4 ** hand.count(10)


@cache
def reachable(hand):
    """All values of a hand, by joining any two formulas of any two parts."""
    if len(hand) == 1:
        return {float(hand[0])}
    found = set()
    for size in range(1, len(hand)):
        for side in combinations(range(len(hand)), size):
            other = tuple(card for index, card in enumerate(hand) if index not in side)
            for one, two in product(reachable(tuple(hand[index] for index in side)), reachable(other)):
                found |= {one + two, one - two, one * two} | ({one / two} if two else set())
    return found


def solvable(hand):
    """Whether 24 is within reach but for rounding."""
    return any(abs(value - 24) < 1e-9 for value in reachable(hand))


def rank(formula):
    """What the canonical formula has the least of."""
    tree = ast.parse("".join(map(str, formula)), mode="eval")
    results = [eval(ast.unparse(node)) for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    tokens = tuple(token if isinstance(token, int) else 100 + SYMBOLS.index(token) for token in formula)
    inverses = formula.count("-") + formula.count("/")
    return formula.count("("), inverses, sum(result < 0 for result in results), tokens


def formulas(hand, brackets):
    """All formulas of a hand with so many pairs of brackets, of which two stand side by side."""
    spans = {0: [()], 1: [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)], 2: [(0, 1, 2, 3)]}[brackets]
    for order, operators, span in product(set(permutations(hand)), product("+-*/", repeat=3), spans):
        formula = []
        for index, number in enumerate(order):
            formula += ["("] * (index in span[::2]) + [number] + [")"] * (index in span[1::2])
            formula += [operators[index]] if index < 3 else []
        yield formula


def test_solvable_hands_are_the_published_ones():
    """566 of 715 hands, 20,876 of 28,561 deals, less the one hand that rounding makes unwinnable."""
    solved = {hand for hand in HANDS if solution(hand) is not None}
    assert len(HANDS) == 715 and sum(map(deals, HANDS)) == 13**4
    assert sum(map(deals, solved)) / 13**4 == pytest.approx(0.7307, abs=5e-5)
    in_fractions = solved | {(3, 3, 8, 8)}
    assert len(solved) == 565 and len(in_fractions) == 566
    assert sum(map(deals, in_fractions)) == 20_876


def test_no_hand_is_given_up_that_can_be_solved():
    unsolved = [hand for hand in HANDS if solution(hand) is None]
    sample = [*unsolved[::5], (3, 3, 8, 8)]
    assert [hand for hand in sample if solvable(hand)] == [(3, 3, 8, 8)]


def test_every_solution_is_worth_24_in_both_grammars_and_uses_each_card_once():
    for hand in HANDS:
        found = solution(hand)
        if found is not None:
            assert reference.value(found, "strict") == 24 == evaluate(found, "strict")
            assert tuple(sorted(token for token in found if isinstance(token, int))) == hand
            assert len(found) <= 11


@pytest.mark.parametrize(
    "hand", [(2, 6, 8, 10), (1, 3, 4, 6), (3, 7, 9, 9), (1, 5, 5, 5), (4, 4, 10, 10), (2, 3, 7, 10), (1, 1, 4, 9)]
)
def test_a_solution_is_the_least_of_all_formulas(hand):
    """All formulas without brackets are tried, then those with one pair if it takes one, then those with two."""
    found = solution(hand)
    assert found is not None
    for brackets in range(3):
        wins = [formula for formula in formulas(hand, brackets) if reference.value(formula, "strict") == 24]
        if wins:
            assert rank(found) == min(map(rank, wins))
            return
    raise AssertionError("the brute force found nothing")


@pytest.mark.parametrize(
    ("hand", "text"),
    [
        ((1, 1, 5, 6), "1*6*(5-1)"),
        ((1, 3, 5, 9), "1*3*5+9"),
        ((2, 3, 6, 7), "3+6*7/2"),
        ((2, 6, 8, 10), "2*6*(10-8)"),
        ((1, 3, 4, 6), "6/(1-3/4)"),
        ((1, 1, 4, 9), "(4-1)*(9-1)"),
        ((1, 4, 9, 9), None),
        ((3, 3, 8, 8), None),
    ],
)
def test_solutions_case_by_case(hand, text):
    found = solution(hand)
    assert (None if found is None else "".join(map(str, found))) == text


def test_plan_follows_the_canonical_solution_and_recovers_when_off_it():
    hand = (10, 2, 6, 8)
    canonical = solution((2, 6, 8, 10))
    assert canonical is not None
    for length in range(len(canonical) + 1):
        assert plan([*canonical[:length], " "], hand) == canonical
    assert "".join(map(str, plan(["(", 10], hand) or ())) == "(10+2-8)*6"
    assert plan([2, 6], hand) is None
    assert plan([], (1, 4, 9, 9)) is None
    assert plan([], (3, 3, 8, 8)) is None


def test_plan_gives_up_where_blanks_leave_no_room():
    """2*6*(10-8) takes 9 of 20 tokens."""
    assert plan([" "] * 11, (2, 6, 8, 10)) is not None
    assert plan([" "] * 12, (2, 6, 8, 10)) is None


def test_plans_from_random_beginnings_win():
    rng, recovered = np.random.default_rng(5), 0
    for _ in range(120):
        hand = tuple(rng.integers(1, 11, 4).tolist())
        formula = reference.random_formula(reference.POINTS24, hand, rng, most=5)
        found = plan(formula, hand)
        if found is not None:
            begun = tuple(token for token in formula if token != " ")
            assert found[: len(begun)] == begun
            assert sorted(token for token in found if isinstance(token, int)) == sorted(hand)
            assert reference.value(found, "strict") == 24
            assert len(found) + len(formula) - len(begun) <= 20
            recovered += len(begun) > 0
    assert recovered > 10
