from itertools import combinations

import numpy as np
import pytest

from envs.gym_cards.cards import FELT
from envs.gym_cards.ez_points import PLACES, EZPoints
from tests.envs.gym_cards.glances import cell_of, differing, glance

TENS = ("T", "J", "Q", "K")
PARTNER = {"2": "6", "3": "9", "4": "8", "5": "7", "6": "6", "7": "5", "8": "4", "9": "3", **dict.fromkeys(TENS, "2")}
ENV = EZPoints()


def frame(left, right, formula=()):
    return ENV.reset(options={"cards": [left, right], "formula": list(formula)})[0]


@pytest.mark.parametrize("side", [0, 1], ids=["left", "right"])
def test_ranks_differ_at_a_glance_within_their_cell(side):
    """Any two ranks differ in at least 30 of a cell's 784 pixels by more than half the contrast."""
    shown = {}
    for rank, partner in PARTNER.items():
        pair = ("S" + rank, "S" + partner) if side == 0 else ("S" + partner, "S" + rank)
        shown[rank] = glance(frame(*pair))[cell_of(PLACES[side].rank)]
    for one, two in combinations(shown, 2):
        assert differing(shown[one], shown[two]) >= 30, (one, two)


def test_hands_look_different_and_their_order_shows():
    frames = [frame(suit + one, "C" + two) for suit in "HSDC" for one, two in PARTNER.items()]
    assert len({glance(one).tobytes() for one in frames}) == len(frames)
    assert not np.array_equal(frame("H4", "H8"), frame("H8", "H4"))


def test_suits_differ_at_a_glance():
    """In shape where the colour is the same."""
    for one, two in (("H", "D"), ("S", "C")):
        assert differing(glance(frame(one + "4", "S8")), glance(frame(two + "4", "S8")), 48) >= 8
    red, black = frame("H4", "S8"), frame("S4", "S8")
    assert differing(red[..., 0].astype(float), black[..., 0].astype(float)) > 300


def test_cards_lie_where_the_original_put_them():
    shown = frame("H4", "S8")
    felt = (shown == FELT).all(axis=2)
    for x, y, width, height in ((5, 55, 135, 189), (153, 55, 135, 189)):
        assert not felt[y + height // 2, x] and not felt[y + height // 2, x + width - 1]
        assert not felt[y, x + width // 2] and not felt[y + height - 1, x + width // 2]
        assert felt[y + height // 2, x - 1] and felt[y + height // 2, x + width]
        assert felt[y, x] and felt[y + height - 1, x + width - 1]  # round corners, felt behind them
    assert felt[:55].all() and felt[244:252].all()


def test_the_formula_is_written_below_with_gaps_for_blanks():
    states = [(), (4,), (4, "+"), (4, " "), (4, " ", "+"), (" ", 4), (4, "+", 8), (8, "+", 4)]
    shown = [frame("H4", "S8", formula) for formula in states]
    assert len({one.tobytes() for one in shown}) == len(states) - 1
    np.testing.assert_array_equal(shown[1], shown[3])  # a gap at the end cannot be seen
    assert all(np.array_equal(one[:250], shown[0][:250]) for one in shown)
    assert (shown[0][250:, :110] == 255).any() and not (shown[0][250:, 112:] == 255).any()


def test_frames_are_crisp():
    """Few pixels are neither felt, paper nor ink."""
    shown = frame("S4", "S8").astype(int)
    clear = [np.abs(shown - colour).max(axis=2) < 25 for colour in (FELT, (255, 255, 255), (0, 0, 0))]
    assert np.any(clear, axis=0).mean() > 0.96
