"""Right and wrong responses to the same state."""

import numpy as np
import pytest

from learner.pairs import build_pairs, rewards_to_come
from learner.stage_settings import PairConfig
from protocol.errors import TrajectoryError
from tests.learner.sampled import collected, episode, step

A, B, C = (1, 4), (4, 1), (0, 5)


def pairs_of(world, *episodes, gamma=1.0, seed=0, **settings):
    _, rows, outcomes = collected(world, *episodes)
    pairs = build_pairs(rows, outcomes, PairConfig(**settings), gamma=gamma, seed=seed)
    return pairs, set(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), strict=True))


def test_what_follows_a_row_is_discounted_within_its_episode(world):
    _, rows, outcomes = collected(
        world,
        episode("a", step(world, A, "+", 1.0), step(world, B, "-", 2.0), step(world, C, "+", 4.0)),
        episode("b", step(world, A, "+", -1.0)),
    )
    np.testing.assert_allclose(rewards_to_come(rows, outcomes, 0.5), [3.0, 4.0, 4.0, -1.0])


def test_the_action_that_earns_more_is_right(world):
    pairs, found = pairs_of(
        world,
        episode("good", step(world, A, "+", 0.0), step(world, C, "+", 1.0)),
        episode("bad", step(world, A, "-", -1.0), step(world, B, "-", 1.0)),
    )
    assert found == {(0, 2)}
    assert (len(pairs), pairs.states) == (1, 1)


def test_an_action_is_judged_by_its_average_not_by_one_lucky_episode(world):
    episodes = [
        episode("plus-1", step(world, A, "+", 1.0)),
        episode("plus-2", step(world, A, "+", 0.5)),
        episode("lucky", step(world, A, "-", 2.0)),
        episode("minus", step(world, A, "-", -3.0)),
    ]
    _, found = pairs_of(world, *episodes)
    assert found == {(0, 2), (0, 3), (1, 2), (1, 3)}


def test_states_differ_by_picture_and_by_prompt(world):
    other = {"prompt_token_ids": world.expanded("another task")}
    episodes = [
        episode("plus", step(world, A, "+", 1.0)),
        episode("elsewhere", step(world, B, "-", -1.0)),
        episode("otherwise", step(world, A, "-", -1.0, **other)),
    ]
    with pytest.raises(TrajectoryError, match=r"3 rows of 3 states hold no right response.*samples.group_size"):
        pairs_of(world, *episodes)


def test_actions_within_the_margin_are_not_told_apart(world):
    episodes = [
        episode("best", step(world, A, "left", 1.0)),
        episode("near", step(world, A, "right", 0.5)),
        episode("far", step(world, A, "stay", -1.0)),
    ]
    assert pairs_of(world, *episodes, margin=0.5)[1] == {(0, 2)}
    assert pairs_of(world, *episodes)[1] == {(0, 1), (0, 2)}
    with pytest.raises(TrajectoryError, match="margin 2"):
        pairs_of(world, *episodes, margin=2.0)


def test_a_response_without_an_action_is_wrong_whatever_chance_made_of_it(world):
    episodes = [
        episode("plus", step(world, A, "+", -1.0)),
        episode("mumbling", step(world, A, "+", 5.0, legal=False, text="?")),
    ]
    assert pairs_of(world, *episodes)[1] == {(0, 1)}


def test_reading_can_be_what_is_preferred(world):
    episodes = [
        episode("read", step(world, A, "-", -1.0, recognized={"x": True, "y": True})),
        episode("half", step(world, A, "+", 1.0, recognized={"x": True, "y": False})),
        episode("silent", step(world, A, "+", 1.0)),
    ]
    assert pairs_of(world, *episodes, rule="recognition")[1] == {(0, 1)}


def test_no_state_outweighs_the_others(world):
    often = [
        episode(f"{sign}{n}", step(world, A, sign, 1.0 if sign == "+" else -1.0)) for sign in "+-" for n in range(6)
    ]
    once = [episode("b+", step(world, B, "+", -1.0)), episode("b-", step(world, B, "-", 1.0))]
    pairs, found = pairs_of(world, *often, *once, pairs_per_state=3)
    assert len(pairs) == len(found) == 4 and pairs.states == 2
    assert (13, 12) in found
    assert len(pairs_of(world, *often, *once, max_pairs=2)[0]) == 2


def test_the_draw_depends_on_the_seed_alone(world):
    often = [
        episode(f"{sign}{n}", step(world, A, sign, 1.0 if sign == "+" else -1.0)) for sign in "+-" for n in range(6)
    ]
    draws = [pairs_of(world, *often, pairs_per_state=4, seed=seed)[0] for seed in (0, 0, 1)]
    assert draws[0].chosen.tolist() == draws[1].chosen.tolist()
    assert (draws[0].chosen.tolist(), draws[0].rejected.tolist()) != (
        draws[2].chosen.tolist(),
        draws[2].rejected.tolist(),
    )
