import numpy as np
import pytest

from envs.errors import ResetOptionsError
from envs.gym_cards.number_line import NumberLine
from tests.envs.gym_cards.reference import ACTION, LAST_STEP, STATES, initial_distribution, transition

# Of a move from each position 0..5, one row per target 0..5: "+" and "-" are +1 and -1, "0" is 0, "." is an end.
REWARDS = {
    "-": (".+0000", "-.+000", "--.+00", "---.+0", "----.+", "-----."),
    "+": (".-----", "+.----", "0+.---", "00+.--", "000+.-", "0000+."),
}


@pytest.fixture
def env():
    return NumberLine()


def place(env, target, current, steps=0):
    return env.reset(options={"target": target, "current": current, "steps": steps})


@pytest.mark.parametrize("name", ACTION)
def test_every_transition_agrees_with_the_reference(env, name):
    for target, current in STATES:
        for steps in range(LAST_STEP):
            place(env, target, current, steps)
            _, reward, terminated, truncated, info = env.step(ACTION[name])
            found = (info["Current"], reward, terminated, truncated)
            assert found == transition(target, current, steps, name), (target, current, steps, name)
            assert info["Target"] == target


@pytest.mark.parametrize("name", ACTION)
def test_every_reward_is_the_tabled_one(env, name):
    for target, current in STATES:
        place(env, target, current)
        _, reward, terminated, truncated, _ = env.step(ACTION[name])
        sign = REWARDS[name][target][current]
        assert (reward, terminated, truncated) == ({"+": 1, "-": -1, "0": 0}[sign], sign == "+", False)


def test_the_fewest_moves_to_the_target_earn_one(env):
    """And one wasted move makes the return nothing, which is no success."""
    for target, current in STATES:
        toward, away = ("+", "-") if current < target else ("-", "+")
        moves = abs(target - current) * [toward]
        for wasted in (0, 1):
            place(env, target, current)
            back = [] if current in (0, 5) else [toward]  # a wall keeps the number where it is
            rewards = [env.step(ACTION[name])[1] for name in wasted * [away, *back] + moves]
            assert sum(rewards) == 1 - wasted


def test_thousands_of_played_transitions_agree_with_the_reference(env):
    rng, names = np.random.default_rng(1), tuple(ACTION)
    steps, ended, seen, lengths = 0, True, 0, set()
    target = current = -1
    while seen < 5000:
        if ended:
            _, info = env.reset(seed=1 if seen == 0 else None)
            target, current, steps = info["Target"], info["Current"], 0
        name = names[rng.integers(2)]
        _, reward, terminated, truncated, info = env.step(ACTION[name])
        new, *outcome = transition(target, current, steps, name)
        assert (info, [reward, terminated, truncated]) == ({"Target": target, "Current": new}, outcome)
        current, steps, ended, seen = new, steps + 1, terminated or truncated, seen + 1
        lengths |= {steps} if ended else set()
    assert lengths == set(range(1, LAST_STEP + 1))


@pytest.mark.parametrize(
    ("target", "current", "steps", "action", "expected"),
    [
        (4, 1, 0, 1, (2, 0, False, False)),  # nearer
        (4, 1, 0, 0, (0, -1, False, False)),  # farther
        (4, 0, 0, 0, (0, -1, False, False)),  # into the lower wall
        (4, 5, 0, 1, (5, -1, False, False)),  # into the upper wall
        (4, 3, 0, 1, (4, 1, True, False)),  # there
        (4, 3, 9, 1, (4, 1, True, False)),  # there with the last step
        (4, 1, 9, 1, (2, 0, False, True)),  # out of steps, on the way
        (4, 1, 9, 0, (0, -1, False, True)),  # out of steps, off the way
    ],
)
def test_rules_case_by_case(env, target, current, steps, action, expected):
    place(env, target, current, steps)
    _, reward, terminated, truncated, info = env.step(action)
    assert (info["Current"], reward, terminated, truncated) == expected


def test_initial_states_follow_the_published_distribution(env):
    """Chi-square over 30 states, 29 degrees of freedom: 58.3 is exceeded once in 1000 seeds."""
    n = 7200
    env.reset(seed=2)
    counts = dict.fromkeys(STATES, 0)
    for _ in range(n):
        _, info = env.reset()
        counts[info["Target"], info["Current"]] += 1
    odds = initial_distribution()
    chi_square = sum((counts[state] - n * p) ** 2 / (n * p) for state, p in odds.items())
    assert chi_square < 58.3
    uniform = sum((counts[state] - n / 30) ** 2 / (n / 30) for state in odds)
    assert uniform > 200, "the sample is too small to tell this distribution from a uniform one"


def test_the_reference_distribution_has_the_published_marginals():
    odds = initial_distribution()
    goals = [36 * sum(p for (target, _), p in odds.items() if target == goal) for goal in range(6)]
    assert goals == [6, 7, 6, 6, 6, 5]
    distances = [
        36 * sum(p for (target, current), p in odds.items() if abs(target - current) == d) for d in range(1, 6)
    ]
    assert distances == [14, 8, 6, 6, 2]


def test_state_injection_is_exact(env):
    for target, current in STATES:
        _, info = place(env, target, current)
        assert info == {"Target": target, "Current": current}
    assert env.reset(options={"target": np.int64(4), "current": 1})[1] == {"Target": 4, "Current": 1}


def test_injected_steps_count_and_default_to_none_made(env):
    place(env, 5, 2, steps=8)
    assert env.step(0)[3] is False
    assert env.step(1)[3] is True
    env.reset(options={"target": 5, "current": 2})
    assert [env.step(0)[3] for _ in range(LAST_STEP)] == [False] * 9 + [True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 4}, "lack current; a state needs target, current"),
        ({"target": 4, "current": 1, "stesp": 0}, "'stesp'; did you mean 'steps'"),
        ({"target": 4, "current": 1, "zz": 0}, "'zz'; known: target, current, steps"),
        ({"target": 6, "current": 1}, "'target' must be an integer from 0 to 5, not 6"),
        ({"target": 4, "current": -1}, "'current' must be an integer from 0 to 5, not -1"),
        ({"target": 4, "current": 1.0}, "'current' must be an integer from 0 to 5, not 1.0"),
        ({"target": "4", "current": 1}, "'target' must be an integer from 0 to 5, not '4'"),
        ({"target": True, "current": 0}, "'target' must be an integer from 0 to 5, not True"),
        ({"target": 4, "current": 1, "steps": 10}, "'steps' must be an integer from 0 to 9, not 10"),
        ({"target": 4, "current": 1, "steps": None}, "'steps' must be an integer from 0 to 9, not None"),
        ({"target": 4, "current": 4}, "both 4: that is an end"),
    ],
)
def test_impossible_states_are_refused_and_leave_the_old_one(env, options, message):
    place(env, 2, 0)
    with pytest.raises(ResetOptionsError, match=message):
        env.reset(options=options)
    assert env.step(1)[4] == {"Target": 2, "Current": 1}


def test_a_longer_line_scales_walls_and_limit():
    env = NumberLine(max_position=9)
    env.reset(options={"target": 0, "current": 8})
    outcomes = [env.step(1) for _ in range(18)]
    assert [outcome[4]["Current"] for outcome in outcomes] == [9] * 18
    assert [outcome[3] for outcome in outcomes] == [False] * 17 + [True]


def test_the_shortest_line_never_starts_on_its_target():
    env = NumberLine(max_position=2)
    env.reset(seed=0)
    infos = [env.reset()[1] for _ in range(200)]
    assert all(info["Target"] != info["Current"] for info in infos)


@pytest.mark.parametrize("max_position", [1, 10, 5.0, 5.5, "5", True, None])
def test_an_unfit_line_is_refused(max_position):
    with pytest.raises(ValueError, match="max_position must be an integer from 2 to 9, not"):
        NumberLine(max_position=max_position)
