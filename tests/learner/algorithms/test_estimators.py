"""Advantages of whole episodes against hand-computed cases and against loops written like the papers."""

import random
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.advantages import discounted_returns, group_relative, leave_one_out
from learner.algorithms.anchor_states import AnchorStateAdvantages
from learner.algorithms.group_relative import GroupRelativeAdvantages, LeaveOneOutAdvantages
from learner.algorithms.monte_carlo import MonteCarloAdvantages
from learner.moving_average import MovingAverages
from learner.rows import gather_rows
from protocol.errors import TrajectoryError
from protocol.trajectory import EndReason
from tests.learner.world import STATES

NO_POLICY: Any = None
"""These estimators ask no policy."""

A, B, C = STATES[:3]


def steps_of(world, *specs):
    """Whole episodes given as (seed, states, rewards, task)."""
    steps = []
    for number, (seed, states, rewards, task) in enumerate(specs):
        made = world.trajectory(f"t{number}", states, rewards)
        steps += [replace(step, reset_seed=seed, task=task) for step in made]
    return steps


def episodes(world, *specs):
    return gather_rows([world.batch(steps_of(world, *specs))])


@pytest.fixture
def rows(world):
    """Two groups of one environment and one of another, an episode alone, and one that was cut."""
    whole = steps_of(
        world,
        (1, [A, B], [0.0, 1.0], ""),
        (2, [B, C], [0.0, 0.0], ""),
        (1, [A, C, A], [-1.0, 0.0, 3.0], ""),
        (1, [A], [-3.0], ""),
        (2, [B], [4.0], ""),
        (9, [C, A], [5.0, 5.0], ""),
        (1, [A, B], [1.0, 0.0], "hard/1"),
        (1, [A, B], [-1.0, 0.0], "hard/2"),
    )
    cut = world.trajectory("cut", [A, B], [7.0, 7.0], end_reason=EndReason.CUT, bootstrap_of=C)
    return gather_rows([world.batch([*whole, *(replace(s, reset_seed=1) for s in cut)])])


# Rows of `rows`:      t0    t1    t2       t3 t4 t5    t6    t7    cut
EPISODE_OF_ROW = [0, 0, 1, 1, 2, 2, 2, 3, 4, 5, 5, 6, 6, 7, 7]
TOTALS = [1.0, 0.0, 2.0, -3.0, 4.0, 10.0, 1.0, -1.0]
GROUPS = [[0, 2, 3], [1, 4], [6, 7]]


def slow_rows(values):
    """One value per episode to one per row, 0 for what is not in a group, two rows of the cut one at the end."""
    return [values.get(e, 0.0) for e in EPISODE_OF_ROW] + [0.0, 0.0]


def test_leave_one_out_is_the_difference_to_the_mean_of_the_others(rows):
    targets = LeaveOneOutAdvantages(gamma=0.5, reward_scale=1.0)(NO_POLICY, rows)
    expected = {e: TOTALS[e] - statistics.mean(TOTALS[o] for o in group if o != e) for group in GROUPS for e in group}
    assert expected[0] == 1.5  # 1 - (2 - 3) / 2
    np.testing.assert_allclose(targets.advantages.numpy(), slow_rows(expected), atol=1e-6)
    assert targets.old_values is None
    assert targets.trained_rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14]
    assert targets.returns[:2].tolist() == [0.5, 1.0]  # discounted rewards to come
    assert targets.metrics["rows_left_out"] == 4
    assert targets.metrics["groups"] == 3
    assert targets.metrics["group_size_mean"] == pytest.approx(7 / 3)


@pytest.mark.parametrize("normalization", ["group", "none"])
def test_group_relative_by_the_formula(rows, normalization):
    estimate = GroupRelativeAdvantages(0.9, 2.0, per_group=normalization == "group", memory=None)
    expected = {}
    for group in GROUPS:
        returns = [2 * TOTALS[e] for e in group]
        scale = statistics.stdev(returns) + 1e-5 if normalization == "group" else 1.0
        expected |= {e: (r - statistics.mean(returns)) / scale for e, r in zip(group, returns, strict=True)}
    np.testing.assert_allclose(estimate(NO_POLICY, rows).advantages.numpy(), slow_rows(expected), atol=1e-5)


def test_the_moving_deviation_is_kept_per_task_and_over_updates(rows):
    """Mean deviation of a task's groups: sqrt(7), sqrt(8) in one, sqrt(2) in the other."""
    memory = MovingAverages(0.5)
    estimate = GroupRelativeAdvantages(0.9, 1.0, per_group=False, memory=memory)
    easy, hard = (7**0.5 + 8**0.5) / 2, 2**0.5
    first = estimate(NO_POLICY, rows).advantages
    assert float(first[0]) == pytest.approx(1 / easy, rel=1e-4)
    assert float(first[11]) == pytest.approx(1 / hard, rel=1e-4)
    memory.add("env", 4 * easy)  # as if an update between had more spread
    second = estimate(NO_POLICY, rows).advantages
    weights = (0.25, 0.5, 1.0)
    moved = (weights[0] * easy + weights[1] * 4 * easy + weights[2] * easy) / sum(weights)
    assert float(second[0]) == pytest.approx(1 / moved, rel=1e-4)
    assert float(second[11]) == pytest.approx(float(first[11]))


def test_a_group_in_which_all_ended_alike_pulls_nowhere(world):
    rows = episodes(world, (1, [A], [0.1], ""), (1, [A, B], [0.0, 0.1], ""), (2, [A], [1.0], ""), (2, [A], [0.0], ""))
    targets = GroupRelativeAdvantages(0.9, 1.0, per_group=True, memory=None)(NO_POLICY, rows)
    assert targets.advantages[:3].tolist() == [0.0, 0.0, 0.0]
    assert targets.metrics["groups_without_signal"] == 0.5
    assert targets.trained_rows.tolist() == [0, 1, 2, 3, 4]


def test_monte_carlo_by_hand(world):
    rows = episodes(world, (1, [A, B], [0.0, 4.0], ""), (2, [A], [1.0], ""), (3, [C], [10.0], "hard/1"))
    targets = MonteCarloAdvantages(gamma=0.5, reward_scale=1.0, normalized=False)(NO_POLICY, rows)
    assert targets.returns.tolist() == [2.0, 4.0, 1.0, 10.0]
    # Baselines: (2 + 4 + 1) / 3 in one environment, 10 in the other.
    np.testing.assert_allclose(targets.advantages.numpy(), [-1 / 3, 5 / 3, -4 / 3, 0.0], atol=1e-6)
    scaled = MonteCarloAdvantages(gamma=0.5, reward_scale=1.0, normalized=True)(NO_POLICY, rows).advantages
    assert float(scaled.std()) == pytest.approx(1.0, abs=1e-3)
    assert float(scaled[0] / scaled[1]) == pytest.approx(-0.2)


def slow_gigpo(specs, gamma, omega, normalized):
    """The paper's two levels with lists: specs are (seed, states, rewards)."""

    def relative(value, values):
        if len(set(values)) == 1:
            return 0.0
        centred = value - statistics.mean(values)
        return centred / (statistics.stdev(values) + 1e-5) if normalized else centred

    returns_of = [
        [sum(gamma ** (k - t) * rewards[k] for k in range(t, len(rewards))) for t in range(len(rewards))]
        for _, _, rewards in specs
    ]
    out = []
    for me, (seed, states, rewards) in enumerate(specs):
        group = [i for i, spec in enumerate(specs) if spec[0] == seed]
        if len(group) < 2:
            out += [0.0] * len(rewards)
            continue
        episode = relative(sum(rewards), [sum(specs[i][2]) for i in group])
        for t, state in enumerate(states):
            anchors = [returns_of[i][k] for i in group for k, s in enumerate(specs[i][1]) if s == state]
            step = relative(returns_of[me][t], anchors) if len(anchors) > 1 else 0.0
            out.append(episode + omega * step)
    return out


@pytest.mark.parametrize("normalized", [True, False])
def test_anchor_states_equal_the_two_levels_written_out(world, normalized):
    draw = random.Random(3)
    specs = []
    for _ in range(12):
        length = draw.randint(1, 4)
        states = [draw.choice([A, B, C]) for _ in range(length)]
        specs.append((draw.randint(1, 4), states, [float(draw.choice([-1, 0, 0, 2])) for _ in range(length)]))
    rows = episodes(world, *((*spec, "") for spec in specs))
    estimate = AnchorStateAdvantages(gamma=0.8, reward_scale=1.0, step_weight=0.7, normalized=normalized)
    expected = slow_gigpo(specs, 0.8, 0.7, normalized)
    np.testing.assert_allclose(estimate(NO_POLICY, rows).advantages.numpy(), expected, atol=1e-4)


def test_anchor_states_by_hand(world):
    """Both episodes begin in A; only the first comes through B, twice."""
    rows = episodes(world, (1, [A, B, B], [0.0, 0.0, 4.0], ""), (1, [A, C], [1.0, 1.0], ""))
    targets = AnchorStateAdvantages(gamma=0.5, reward_scale=1.0, step_weight=2.0, normalized=False)(NO_POLICY, rows)
    # Episodes: 4 and 2, so +1 and -1. In A: 1 and 1.5, so -+0.25. In B: 2 and 4, so -+1. C is alone.
    assert targets.advantages.tolist() == [1 - 0.5, 1 - 2.0, 1 + 2.0, -1 + 0.5, -1.0]
    assert targets.metrics["rows_in_shared_states"] == pytest.approx(4 / 5)


def test_step_weight_zero_is_grpo(rows):
    both = [
        AnchorStateAdvantages(0.9, 1.0, step_weight=0.0, normalized=True),
        GroupRelativeAdvantages(0.9, 1.0, per_group=True, memory=None),
    ]
    with_steps, without = (estimate(NO_POLICY, rows).advantages for estimate in both)
    assert with_steps.tolist() == without.tolist()


@pytest.mark.parametrize(
    "estimate",
    [
        LeaveOneOutAdvantages(0.9, 1.0),
        GroupRelativeAdvantages(0.9, 1.0, per_group=True, memory=None),
        AnchorStateAdvantages(0.9, 1.0, step_weight=1.0, normalized=True),
    ],
)
def test_without_a_group_there_is_a_clear_error(world, estimate):
    with pytest.raises(TrajectoryError, match=r"2 different states.*Cure.*rollout\.group_size"):
        estimate(NO_POLICY, episodes(world, (1, [A], [1.0], ""), (2, [A], [1.0], "")))


VALUES = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=9)


@settings(max_examples=60, deadline=None)
@given(values=VALUES, shift=st.floats(-5, 5), factor=st.floats(0.1, 10))
def test_group_advantages_sum_to_zero_and_ignore_the_level(values, shift, factor):
    array = np.array(values)
    for made in (leave_one_out(array), group_relative(array, float(array.std(ddof=1)))):
        assert abs(made.sum()) < 1e-6 * len(values)
    np.testing.assert_allclose(leave_one_out(array + shift), leave_one_out(array), atol=1e-9)
    np.testing.assert_allclose(leave_one_out(array * factor), factor * leave_one_out(array), atol=1e-7)
    order = np.argsort(array, kind="stable")
    assert np.all(np.diff(group_relative(array, None)[order]) >= 0)


@settings(max_examples=60, deadline=None)
@given(rewards=st.lists(st.floats(-5, 5), min_size=1, max_size=12), gamma=st.floats(0, 1))
def test_discounted_returns_equal_the_sum(rewards, gamma):
    expected = [sum(gamma ** (k - t) * rewards[k] for k in range(t, len(rewards))) for t in range(len(rewards))]
    np.testing.assert_allclose(discounted_returns(np.array(rewards), gamma), expected, atol=1e-9)
