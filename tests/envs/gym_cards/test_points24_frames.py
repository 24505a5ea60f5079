from itertools import combinations

import numpy as np
import pytest

from envs.gym_cards.cards import FELT
from envs.gym_cards.deck import RANKS
from envs.gym_cards.points24 import PLACES, Points24
from tests.envs.gym_cards.glances import cell_of, differing, glance

ENV = Points24()


def frame(cards=("SA", "SA", "SA", "SA"), formula=()):
    return ENV.reset(options={"cards": list(cards), "formula": list(formula)})[0]


@pytest.mark.parametrize("index", range(4))
def test_ranks_differ_at_a_glance_within_their_cell(index):
    """The ranks are 16 pixels high; any two differ in at least 15 pixels by more than a quarter of the contrast."""
    shown = {}
    for rank in RANKS:
        cards = ["SA"] * 4
        cards[index] = "S" + rank
        shown[rank] = glance(frame(cards))[cell_of(PLACES[index].rank)]
    for one, two in combinations(shown, 2):
        assert differing(shown[one], shown[two], 64) >= 15, (one, two)


def test_a_card_changes_its_own_place_only():
    for index, place in enumerate(PLACES):
        cards = ["SA"] * 4
        cards[index] = "H8"
        changed = (frame(cards) != frame()).any(axis=2)
        box = np.s_[place.y : place.y + place.height, place.x : place.x + place.width]
        assert changed[box].sum() > 500
        changed[box] = False
        assert not changed.any()


def test_all_52_cards_look_different():
    shown = {glance(frame([suit + rank, "SA", "SA", "SA"])).tobytes() for suit in "HSDC" for rank in RANKS}
    assert len(shown) == 52


def test_cards_lie_where_the_original_put_them():
    places = [(place.x, place.y, place.width, place.height) for place in PLACES]
    assert places == [(x, 103, 67, 93) for x in (5, 78, 152, 226)]
    felt = (frame() == FELT).all(axis=2)
    assert felt[:103].all() and felt[196:199].all() and felt[104:195, 145:152].all()
