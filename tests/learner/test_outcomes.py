"""What rows led to, read from their columns."""

import pytest

from protocol.errors import TrajectoryError
from protocol.trajectory import EndReason
from tests.learner.sampled import collected, episode, step

A, B = (1, 4), (4, 1)


def test_the_tasks_own_verdict_counts_and_else_the_return(world):
    _, _, outcomes = collected(
        world,
        episode("told", step(world, A, "+", 1.0, told={"success": False})),
        episode("won", step(world, A, "+", 1.0)),
        episode("drawn", step(world, A, "+", -1.0), step(world, B, "-", 1.0)),
        episode("told-won", step(world, A, "+", -5.0, told={"success": True})),
    )
    assert outcomes.successes == [False, True, False, True]
    assert [outcomes.episode_return(e) for e in outcomes.episodes] == [1.0, 1.0, 0.0, -5.0]


def test_shaped_rewards_do_not_make_a_success(world):
    shaped = step(world, A, "+", 1.0, told={"environment_reward": -2.0})
    _, rows, outcomes = collected(world, episode("shaped", shaped))
    assert rows.rewards.tolist() == [1.0]
    assert outcomes.environment_rewards.tolist() == [-2.0]
    assert outcomes.successes == [False]


def test_a_cut_episode_is_no_success_and_its_rows_still_tell_their_actions(world):
    bootstrap = {"bootstrap_prompt_token_ids": world.expanded("next")}
    cut = episode("cut", step(world, A, "+", 1.0, recognized={"x": True}), end=EndReason.CUT, **bootstrap)
    whole = episode("whole", step(world, B, "-", 1.0, recognized={"x": True, "y": False}), step(world, A, "+", 0.0))
    _, _, outcomes = collected(world, cut, whole)
    assert outcomes.actions == ["+", "-", "+"]
    assert outcomes.recognized == [True, False, None]
    assert [e.rows.tolist() for e in outcomes.episodes] == [[1, 2]]


def test_without_a_whole_episode_nothing_can_be_told(world):
    bootstrap = {"bootstrap_prompt_token_ids": world.expanded("next")}
    with pytest.raises(TrajectoryError, match="None of the 1 episodes"):
        collected(world, episode("cut", step(world, A, "+", 1.0), end=EndReason.CUT, **bootstrap))
