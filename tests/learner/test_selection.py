"""Rejection sampling keeps the distinct rows of successes, evenly."""

import numpy as np
import pytest

from learner.selection import select_rows
from learner.stage_settings import SelectionConfig
from protocol.errors import TrajectoryError
from tests.learner.sampled import collected, episode, step

A, B, C = (1, 4), (4, 1), (0, 5)


def chosen(world, *episodes, seed=0, **settings):
    _, rows, outcomes = collected(world, *episodes)
    return select_rows(rows, outcomes, SelectionConfig(**settings), seed)


def test_rows_of_failures_and_of_no_action_are_left_out(world):
    selection = chosen(
        world,
        episode("lost", step(world, A, "-", -1.0), step(world, A, "+", 0.0)),
        episode(
            "won", step(world, A, "+", 0.0), step(world, B, "-", 1.0, legal=False, text="?"), step(world, C, "+", 1.0)
        ),
    )
    assert selection.index.tolist() == [2, 4]
    assert selection.metrics == {
        "episodes": 2.0,
        "successes": 1.0,
        "rows_sampled": 5.0,
        "rows_of_successes": 3.0,
        "rows_kept": 2.0,
    }


def test_equal_answers_to_a_state_count_once_and_different_ones_up_to_a_limit(world):
    won = [episode(f"a{n}", step(world, A, "+", 1.0)) for n in range(3)]
    others = [episode(f"b{n}", step(world, B, "-", 1.0, text=f"thought {n}")) for n in range(5)]
    selection = chosen(world, *won, *others, rows_per_state=2)
    assert len(selection.index) == 3
    assert sum(index < 3 for index in selection.index) == 1
    assert chosen(world, *won, *others, rows_per_state=None).metrics["rows_kept"] == 6
    assert len(chosen(world, *won, *others, rows_per_state=None, max_rows=4).index) == 4


def test_what_was_said_often_may_stay_often(world):
    won = [episode(f"a{n}", step(world, A, "+", 1.0)) for n in range(3)]
    odd = episode("b", step(world, A, "+", 1.0, text="hm"))
    assert chosen(world, *won, odd, distinct=False).index.tolist() == [0, 1, 2, 3]
    assert len(chosen(world, *won, odd, distinct=False, rows_per_state=2).index) == 2


def test_the_draw_depends_on_the_seed_alone(world):
    others = [episode(f"b{n}", step(world, B, "-", 1.0, text=f"thought {n}")) for n in range(8)]
    draws = [tuple(chosen(world, *others, rows_per_state=3, seed=seed).index.tolist()) for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


def test_small_environments_are_repeated(world):
    many = [episode(f"a{n}", step(world, A, "+", 1.0, text=f"so {n}", task="many")) for n in range(6)]
    few = [episode(f"b{n}", step(world, B, "-", 1.0, text=f"so {n}", task="few/heat")) for n in range(2)]
    selection = chosen(world, *many, *few, rows_per_state=None)
    assert np.bincount(selection.index).tolist() == [1] * 6 + [3] * 2
    assert selection.metrics["rows_kept"] == 8
    assert len(chosen(world, *many, *few, rows_per_state=None, balance=False).index) == 8


def test_a_return_of_ones_own_choice(world):
    episodes = [episode(f"e{value}", step(world, A, "+", value, text=f"{value}")) for value in (-2.0, -1.0, 0.0)]
    assert chosen(world, *episodes, minimum_return=-1.0).index.tolist() == [1, 2]


def test_without_a_success_the_cure_is_named(world):
    with pytest.raises(TrajectoryError, match="None of the 1 whole episodes.*samples.episodes"):
        chosen(world, episode("lost", step(world, A, "-", -1.0)))
