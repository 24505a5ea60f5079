from itertools import combinations

import numpy as np
import pytest

from envs.gym_cards.blackjack import HIT, STAND, UP_CARD, Blackjack, player_places
from envs.gym_cards.cards import FELT
from tests.envs.gym_cards.glances import cell_of, differing, glance

ENV = Blackjack()
LONGEST_HAND = 22


def frame(player=(10, 6), dealer=(9, 7), seed=0):
    """A frame in which tens and suits are always the same."""
    ENV.reset(seed=seed)
    return ENV.reset(options={"player": list(player), "dealer": list(dealer)})[0]


def boxes(count):
    return [(place.x, place.y, place.x + place.width, place.y + place.height) for place in player_places(count)]


@pytest.mark.parametrize("count", range(2, LONGEST_HAND + 1))
def test_every_card_of_every_hand_is_wholly_visible(count):
    """The original pasted the fifth card beyond the right edge."""
    assert len(boxes(count)) == count
    for left, top, right, bottom in boxes(count):
        assert left >= 0 and right <= 300 and top >= 123 and bottom <= 300
    for one, two in combinations(boxes(count), 2):
        apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
        assert apart, (one, two)


@pytest.mark.parametrize("count", [5, 6, 7, 8, 9, 12])
def test_the_last_card_of_a_long_hand_can_be_seen(count):
    ace, two = (frame([1] * (count - 1) + [last]) for last in (1, 2))
    left, top, right, bottom = boxes(count)[-1]
    changed = (ace != two).any(axis=2)
    assert changed[top:bottom, left:right].sum() > 50
    changed[top:bottom, left:right] = False
    assert not changed.any()
    assert differing(glance(ace), glance(two), 48) >= 8


@pytest.mark.parametrize("index", range(8))
def test_ranks_differ_at_a_glance_within_their_cell(index):
    """The ranks are 13 pixels high; any two differ in at least 10 pixels by more than a quarter of the contrast."""
    hand = [1] * 8 if index >= 4 else [1] * 4
    cell, shown = cell_of(player_places(len(hand))[index].rank), {}
    for value in range(1, 11):
        shown[value] = glance(frame([*hand[:index], value, *hand[index + 1 :]]))[cell]
    for one, two in combinations(shown, 2):
        assert differing(shown[one], shown[two], 64) >= 10, (one, two)


def test_the_up_card_differs_at_a_glance():
    shown = [glance(frame(dealer=(value, 7)))[cell_of(UP_CARD.rank)] for value in range(1, 11)]
    assert all(differing(one, two) >= 18 for one, two in combinations(shown, 2))


def test_tens_show_as_jack_queen_or_king():
    shown = {frame((10, 10), (10, 10), seed).tobytes() for seed in range(300)}
    assert len(shown) > 150
    faces = {card[1] for seed in range(30) for card in ENV.reset(seed=seed)[1]["Player Card"] if card[0] == 10}
    assert faces == {"J", "Q", "K"}


def test_ranks_stay_in_place_when_the_fifth_card_comes():
    assert [place.rank for place in player_places(5)[:4]] == [place.rank for place in player_places(4)]


def test_the_hidden_card_never_shows():
    shown = {frame(dealer=(9, hidden)).tobytes() for hidden in range(1, 10)}
    assert len(shown) == 1
    ENV.reset(seed=0)
    before, _ = ENV.reset(options={"player": [10, 6], "dealer": [9, 7], "deck": [2]})
    after = ENV.step(STAND)[0]
    np.testing.assert_array_equal(before, after)


def test_a_hit_shows_in_the_picture():
    ENV.reset(options={"player": [10, 6], "dealer": [9, 7], "deck": [2]})
    shown = ENV.step(HIT)[0]
    left, top, right, bottom = boxes(3)[2]
    assert not (shown[top + 20 : bottom - 20, left + 5 : right - 5] == FELT).all(axis=2).any()


def test_cards_lie_where_the_original_put_them():
    assert (UP_CARD.x, UP_CARD.y, UP_CARD.width, UP_CARD.height) == (5, 25, 70, 98)
    assert [(place.x, place.y) for place in player_places(4)] == [(5, 150), (79, 150), (153, 150), (227, 150)]
    shown = frame()
    felt = (shown == FELT).all(axis=2)
    assert not felt[74, 5] and not felt[74, 78] and not felt[74, 147] and felt[74, 148:].all()
    assert (shown[:25, :80] == 255).any() and (shown[126:150, :80] == 255).any()  # the labels
