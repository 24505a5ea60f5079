import itertools

import pytest

import envs
from envs.gym_cards.hands import is_dealt, is_held_out
from envs.gym_cards.points24 import Points24
from envs.gym_cards.solver import solution

EVERY_HAND = list(itertools.combinations_with_replacement(range(1, 11), 4))


def dealt(hands, count=300):
    env = Points24(hands=hands)
    return [tuple(sorted(env.reset(seed=seed)[1]["Numbers"])) for seed in range(count)]


def test_about_a_tenth_of_the_hands_is_held_out_and_it_is_no_easier_than_the_rest():
    held = [hand for hand in EVERY_HAND if is_held_out(hand)]
    assert 0.08 < len(held) / len(EVERY_HAND) < 0.12
    solvable = sum(solution(hand) is not None for hand in held) / len(held)
    assert abs(solvable - 566 / 715) < 0.1


def test_order_does_not_matter():
    for hand in EVERY_HAND[::50]:
        assert len({is_held_out(order) for order in itertools.permutations(hand)}) == 1


def test_the_two_sides_share_no_hand_and_all_is_both():
    train, held_out = set(dealt("train")), set(dealt("held_out"))
    assert not train & held_out
    assert all(map(is_held_out, held_out)) and not any(map(is_held_out, train))
    assert {is_held_out(hand) for hand in dealt("all")} == {True, False}
    assert all(is_dealt(hand, "all") for hand in EVERY_HAND)


def test_deals_of_the_whole_game_are_what_they_were():
    env, plain = Points24(hands="all"), Points24()
    for seed in range(20):
        assert env.reset(seed=seed)[1] == plain.reset(seed=seed)[1]


def test_a_placed_hand_may_be_of_either_side():
    env = Points24(hands="train")
    held = next(hand for hand in EVERY_HAND if is_held_out(hand))
    cards = ["H" + "A23456789T"[number - 1] for number in held]
    assert env.reset(options={"cards": cards})[1]["Numbers"] == list(held)


def test_an_unknown_side_is_named():
    with pytest.raises(ValueError, match="hands must be one of 'all', 'train', 'held_out', not 'test'"):
        envs.make("gym_cards/Points24-v0", hands="test")
