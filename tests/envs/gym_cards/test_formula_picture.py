"""Formulas on the table: whole at any length, and readable in 84 x 84 pixels."""

from itertools import combinations

import numpy as np
import pytest

from envs.gym_cards import ez_points, points24
from envs.gym_cards.cards import FELT, table
from envs.gym_cards.formula_picture import put_formula
from tests.envs.gym_cards.glances import differing, glance

BOXES = {"EZPoints": (ez_points.FORMULA_BOX, 42), "Points24": (points24.FORMULA_BOX, 36)}
TOKENS = {"EZPoints": [*range(1, 11), "+", "*"], "Points24": [*range(1, 11), *"+-*/()"]}


def written(game, *formula):
    """A picture of bare felt with a formula on it."""
    picture = table()
    box, size = BOXES[game]
    put_formula(picture, box, formula, size)
    return picture


def ink(picture):
    return (picture != FELT).any(axis=2)


def lines(picture):
    """How many lines are written, by the gaps between rows of pixels."""
    rows = ink(picture).any(axis=1).astype(int)
    return int((np.diff(rows, prepend=0) == 1).sum())


@pytest.mark.parametrize("game", BOXES)
def test_tokens_differ_at_a_glance(game):
    """Any two differ in at least 6 of their few pixels by more than a quarter of white on felt."""
    shown = {token: glance(written(game, token)) for token in TOKENS[game]}
    for one, two in combinations(shown, 2):
        assert differing(shown[one], shown[two], 43) >= 6, (one, two)


@pytest.mark.parametrize(
    ("game", "formula"),
    [
        ("EZPoints", [10, "+", "*", 2, "*", "*"]),
        ("EZPoints", [" "] * 6),
        ("Points24", [10, "*", 10, "*", 10, "*", 10, *"((((((((((((((("][:21]),
        ("Points24", [13, "*", 13, "*", 13, "*", 13, *"++++++++++++++"]),
        ("Points24", [10, *[" "] * 8, 10, *[" "] * 9, 10, 10]),
        ("Points24", [*[" "] * 20, 10]),
    ],
)
def test_the_longest_formulas_stay_in_their_box_and_show_each_token(game, formula):
    """The original let long formulas run off the right edge."""
    assert len(formula) == (6 if game == "EZPoints" else 21)
    left, top, right, bottom = BOXES[game][0]
    shown = ink(written(game, *formula))
    shown[top:bottom, left:right] = False
    assert not shown.any()
    for index, token in enumerate(formula):
        if token != " ":
            without = [*formula[:index], " ", *formula[index + 1 :]]
            assert not np.array_equal(written(game, *formula), written(game, *without)), index


def test_a_solution_without_brackets_takes_one_line_and_any_takes_two():
    assert lines(written("Points24", 2, "*", 6, "*", 10, "-", 8)) == 1
    assert lines(written("Points24", "(", 10, "+", 2, "-", 8, ")", "*", 6)) == 1
    assert lines(written("Points24", "(", 10, "+", 10, ")", "*", "(", 10, "-", 8, ")")) == 2


def test_what_is_written_stays_where_it_is_while_the_formula_grows():
    formula = ["(", 10, "+", 2, "-", 8, ")", "*", 6]
    for length in range(1, len(formula)):
        before, after = written("Points24", *formula[:length]), written("Points24", *formula[: length + 1])
        assert (after[ink(before)] == before[ink(before)]).all()


def test_a_blank_is_a_gap_and_at_the_end_nothing():
    plain, gap = written("EZPoints", 4, "+"), written("EZPoints", 4, " ", "+")
    assert ink(plain).sum() == ink(gap).sum() and not np.array_equal(plain, gap)
    shift = int(ink(gap).any(axis=0).nonzero()[0].max() - ink(plain).any(axis=0).nonzero()[0].max())
    assert shift >= 10
    np.testing.assert_array_equal(written("EZPoints", 4), written("EZPoints", 4, " "))
    assert not ink(written("EZPoints")).any()
