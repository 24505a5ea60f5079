"""NumberLine under policies whose results are known: the published reference numbers.

Once exactly, by expanding the environment's own transitions, and once by playing it with a fixed seed.
"""

import json
from functools import cache

import numpy as np
import pytest

import envs
from envs.gym_cards.number_line import NumberLine
from tests.envs.gym_cards.reference import LAST_STEP, STATES, initial_distribution

EPISODES = 4000


@pytest.fixture(scope="module")
def exact():
    """Of uniformly random play: success rate, mean return and rate of reaching the target."""
    env = NumberLine()

    @cache
    def played(target, current, steps, action):
        env.reset(options={"target": target, "current": current, "steps": steps})
        _, reward, terminated, truncated, info = env.step(action)
        return info["Current"], reward, terminated, truncated

    @cache
    def outcome(target, current, steps, total):
        branches = []
        for action in (0, 1):
            new, reward, terminated, truncated = played(target, current, steps, action)
            if terminated or truncated:
                branches.append((float(total + reward > 0), total + reward, float(terminated)))
            else:
                branches.append(outcome(target, new, steps + 1, total + reward))
        return tuple(np.mean(branches, axis=0))

    odds = initial_distribution()
    return sum(float(odds[target, current]) * np.array(outcome(target, current, 0, 0)) for target, current in STATES)


def test_random_play_has_exactly_the_published_results(exact):
    success, mean_return, reached = exact
    assert success == pytest.approx(0.2830, abs=5e-5)
    assert mean_return == pytest.approx(-2.483, abs=5e-4)
    assert reached == pytest.approx(0.6113, abs=5e-5)


def test_sampled_random_play_agrees_within_its_error():
    """Over 4000 episodes the standard errors are 0.7 %, 0.05 and 0.8 %; four of them are allowed."""
    env, task = envs.make("gym_cards/NumberLine-v0")
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    results = np.array([play(env, task, lambda info: task.action_names[rng.integers(2)]) for _ in range(EPISODES)])
    results = results[:, :3]
    errors = results.std(axis=0) / EPISODES**0.5
    assert errors == pytest.approx([0.0071, 0.050, 0.0077], rel=0.1)
    assert (np.abs(results.mean(axis=0) - [0.2830, -2.483, 0.6113]) < 4 * errors).all()


def test_the_expert_is_optimal():
    """Success and return have no spread; the mean path of 2.278 moves has a standard error of 0.03."""
    env, task = envs.make("gym_cards/NumberLine-v0")
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    expert = [play(env, task, lambda info: json.loads(task.expert(info, rng))["action"]) for _ in range(1500)]
    results = np.array(expert)
    assert (results[:, :3] == 1).all()
    assert results[:, 3].max() == 5
    assert abs(results[:, 3].mean() - 2.278) < 4 * results[:, 3].std() / 1500**0.5


def test_the_mean_shortest_path_is_the_published_one():
    odds = initial_distribution()
    assert float(sum(p * abs(target - current) for (target, current), p in odds.items())) == pytest.approx(
        2.278, abs=5e-4
    )


def play(env, task, policy):
    """One episode: success, return, whether the target was reached, length."""
    _, info = env.reset()
    total = 0.0
    for length in range(1, LAST_STEP + 1):
        _, reward, terminated, truncated, info = env.step(task.env_action(policy(info), info))
        total += reward
        if terminated or truncated:
            return task.success(total, info), total, terminated, length
    raise AssertionError("the episode did not end")
