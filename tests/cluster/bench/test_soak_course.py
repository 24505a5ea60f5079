"""The slope is that of least squares, the verdict that of the rule, the levels those of their time."""

import numpy as np
import pytest

from cluster.bench.soak_course import CURVE_POINTS, RunTooShort, course_of

TIMES = np.arange(0, 1801, 5.0)
STEPS = 250 * TIMES
NOISE = np.random.default_rng(0).normal(size=TIMES.size)


def course(values, unit="MB", times=TIMES, steps=STEPS):
    return course_of("memory", "learner", unit, times, steps, values)


def test_a_line_has_its_slope_and_its_levels():
    found = course(600 + 0.1 * STEPS / 1000)
    assert found.slope == pytest.approx(0.1) and found.slope_error == pytest.approx(0.0, abs=1e-9)
    assert found.grows, "30 MB in the last 20 minutes"
    assert (found.at_tenth, found.at_half, found.at_end) == pytest.approx((603.4, 621.4, 643.9), abs=0.1)
    assert (found.peak, found.minutes) == (645, 30)


def test_slope_and_error_are_those_of_another_implementation():
    values = 600 + 0.01 * STEPS / 1000 + 3 * NOISE
    found, late = course(values), TIMES >= 600
    (slope, _), covariance = np.polyfit(STEPS[late] / 1000, values[late], 1, cov=True)
    assert found.slope == pytest.approx(slope, rel=1e-4)
    assert found.slope_error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-4)


def test_what_happens_in_the_first_third_is_no_growth():
    found = course(np.where(TIMES < 600, TIMES, 600.0))
    assert not found.grows and found.slope == 0 and found.slope_error == 0
    assert (found.at_tenth, found.at_half, found.at_end) == (135, 600, 600)


@pytest.mark.parametrize(
    ("values", "grows"),
    [
        (np.full(TIMES.size, 42.0), False),
        (100 + 6.0 * TIMES / 1200, True),  # 6 MB: above 2 % and above the floor
        (100 + 4.0 * TIMES / 1200, False),  # below the floor of 5 MB
        (1000 + 15.0 * TIMES / 1200, False),  # below 2 %
        (1000 + 25.0 * TIMES / 1200, True),
        (1000 - 90.0 * TIMES / 1200, False),  # falls
        (100 + 6.0 * TIMES / 1200 + 50 * NOISE, False),  # not to be told from noise
    ],
)
def test_the_rule(values, grows):
    assert course(values).grows == grows


def test_numbers_have_a_floor_of_their_own():
    assert course(50 + 3 * TIMES / 1200, "number").grows
    assert not course(50 + 1 * TIMES / 1200, "number").grows


def test_the_curve_is_evenly_spaced_and_whole():
    found = course(TIMES)
    assert found.curve == tuple(np.linspace(0, 1800, CURVE_POINTS).tolist())


def test_a_quantity_that_came_late_has_the_levels_that_are_nearest():
    late = TIMES >= 900
    found = course_of("memory", "engine 2", "MB", TIMES[late], STEPS[late], TIMES[late])
    assert (found.at_tenth, found.at_half) == (900, 900) and found.at_end == pytest.approx(1755)


@pytest.mark.parametrize("steps", [[0, 1, 2], [0, 10, 10, 10, 10, 10, 10, 10]])
def test_no_line_through_nothing(steps):
    with pytest.raises(RunTooShort, match="let it run longer"):
        course(np.ones(len(steps)), times=np.arange(len(steps), dtype=float), steps=steps)
