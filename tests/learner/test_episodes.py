from dataclasses import replace

import numpy as np
import pytest

from learner.episodes import equal_starts, whole_episodes
from learner.rows import gather_rows
from protocol.errors import TrajectoryError
from protocol.trajectory import EndReason


def rows_of(world, *trajectories):
    return gather_rows([world.batch([step for steps in trajectories for step in steps])])


def piece(world, name, rewards, *, first=0, **changes):
    """One trajectory of episode `e-NAME` whose steps count from `first`; `changes` may hold `end`."""
    end = changes.pop("end", EndReason.TERMINATED)
    last = {"end_reason": end} | ({"bootstrap_of": (3, 0)} if end.needs_bootstrap else {})
    steps = world.trajectory(f"{name}-{first}", [(1, 4)] * len(rewards), rewards, **last)
    return [replace(s, step=first + i, **({"episode_id": f"e-{name}"} | changes)) for i, s in enumerate(steps)]


@pytest.mark.parametrize("end", [EndReason.TERMINATED, EndReason.TRUNCATED])
def test_an_episode_in_two_pieces_is_put_together_in_the_order_of_its_steps(world, end):
    rows = rows_of(
        world,
        piece(world, "a", [3.0, 4.0], first=2, end=end, reset_seed=7),
        piece(world, "b", [9.0]),
        piece(world, "a", [1.0, 2.0], end=EndReason.CUT, reset_seed=7),
    )
    first, second = whole_episodes(rows, reward_scale=0.5)
    assert first.rows.tolist() == [3, 4, 0, 1]
    assert first.rewards.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert first.total == 5.0
    assert first.start == ("env", "env", 7)
    assert second.rows.tolist() == [2]


@pytest.mark.parametrize(
    "pieces",
    [
        [("a", [1.0, 2.0], {"end": EndReason.CUT})],  # goes on in another update
        [("a", [1.0, 2.0], {"end": EndReason.ENV_ERROR})],
        [("a", [1.0, 2.0], {"first": 2})],  # began in an earlier one
        [("a", [1.0], {"end": EndReason.CUT}), ("a", [2.0], {"first": 2})],  # a row in between was refused
    ],
)
def test_what_is_not_whole_is_left_out_and_nothing_whole_is_an_error(world, pieces):
    made = [piece(world, name, rewards, **changes) for name, rewards, changes in pieces]
    with pytest.raises(TrajectoryError, match="None of the 1 episodes .* is whole.*Cure"):
        whole_episodes(rows_of(world, *made), 1.0)
    kept = whole_episodes(rows_of(world, *made, piece(world, "b", [5.0])), 1.0)
    assert [episode.total for episode in kept] == [5.0]


def test_groups_share_environment_component_and_seed(world):
    tags = [
        {"reset_seed": 1},
        {"reset_seed": 2},
        {"reset_seed": 1},
        {"reset_seed": 1, "env_id": "other"},
        {"reset_seed": 1, "task": "x/1"},
        {"reset_seed": 1, "task": "x/2"},
    ]
    rows = rows_of(world, *(piece(world, str(i), [float(i)], **tag) for i, tag in enumerate(tags)))
    groups = equal_starts(whole_episodes(rows, 1.0))
    assert [[int(e.total) for e in group] for group in groups] == [[0, 2], [4, 5]]


def test_no_two_equal_starts_is_an_error_that_names_the_cure(world):
    rows = rows_of(world, *(piece(world, str(i), [1.0], reset_seed=i) for i in range(3)))
    with pytest.raises(TrajectoryError, match="3 whole episodes begin in 3 different states.*rollout.group_size"):
        equal_starts(whole_episodes(rows, 1.0))


def test_rows_of_an_episode_need_not_lie_together(world):
    rows = rows_of(world, piece(world, "a", [1.0]), piece(world, "b", [2.0]), piece(world, "c", [3.0]))
    assert np.concatenate([e.rows for e in whole_episodes(rows, 1.0)]).tolist() == [0, 1, 2]
