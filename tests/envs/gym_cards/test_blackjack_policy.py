"""The best play of Blackjack, against an independent evaluation and the published reference numbers."""

import json

import numpy as np
import pytest

import envs
from envs.gym_cards.blackjack import Blackjack
from envs.gym_cards.blackjack_policy import best_action, value
from tests.envs.gym_cards import blackjack_reference as reference


def best(goal):
    return lambda worth, soft, up: float(best_action(worth, soft, up, goal) == "hit")


POLICIES = {
    "random": lambda worth, soft, up: 0.5,
    "stand": lambda worth, soft, up: 0.0,
    "below 12": lambda worth, soft, up: float(worth < 12),
    "below 17": lambda worth, soft, up: float(worth < 17),
    "best for wins": best("wins"),
    "best for return": best("return"),
}


@pytest.mark.parametrize(
    ("name", "success", "mean_return", "draws"),
    [
        ("random", 0.2806, -0.396, 0.043),
        ("stand", 0.3807, -0.186, None),
        ("below 12", 0.4129, -0.106, None),
        ("below 17", 0.4077, -0.079, 0.105),
        ("best for wins", 0.4316, -0.0502, None),
        ("best for return", 0.4295, -0.0465, 0.095),
    ],
)
def test_policies_have_the_published_results(name, success, mean_return, draws):
    """Exactly, up to the errors of the published numbers, some of which were counted over finite play."""
    found = reference.play_out(POLICIES[name])
    assert found[0] == pytest.approx(success, abs=0.001)
    assert found[2] == pytest.approx(mean_return, abs=0.002)
    assert draws is None or found[1] == pytest.approx(draws, abs=0.001)


@pytest.mark.parametrize(("goal", "result"), [("wins", 0), ("return", 2)])
def test_the_value_is_what_the_policy_earns(goal, result):
    earned = reference.play_out(POLICIES[f"best for {goal}"])[result]
    start = sum(
        float(reference.DECK[one] * reference.DECK[two] * reference.DECK[up])
        * value(reference.worth([one, two]), 1 in (one, two), up, goal)
        for one in reference.DECK
        for two in reference.DECK
        for up in reference.DECK
    )
    assert start == pytest.approx(earned, abs=1e-12)


@pytest.mark.parametrize(("goal", "result"), [("wins", 0), ("return", 2)])
def test_no_change_of_one_action_helps(goal, result):
    """A policy that no change in a single state improves is optimal."""
    optimum, policy = reference.play_out(POLICIES[f"best for {goal}"])[result], best(goal)
    states = [(worth, soft, up) for soft in (False, True) for worth in range(11, 22) for up in (1, 4, 6, 10)]
    worse = 0
    for state in states:

        def changed(*shown, state=state):
            return 1 - policy(*shown) if shown == state else policy(*shown)

        difference = reference.play_out(changed)[result] - optimum
        assert difference <= 1e-12, state
        worse += difference < 0
    assert worse > 75


def test_known_basic_strategy():
    """Hard totals and soft ones, as printed in any table for a dealer who stands on soft 17."""
    hits = {up: [worth for worth in range(4, 22) if best_action(worth, False, up, "return") == "hit"] for up in (6, 10)}
    assert hits == {6: list(range(4, 12)), 10: list(range(4, 17))}
    assert [up for up in range(1, 11) if best_action(12, False, up, "return") == "stand"] == [4, 5, 6]
    assert [up for up in range(1, 11) if best_action(18, True, up, "return") == "hit"] == [1, 9, 10]
    assert all(best_action(17, True, up, "return") == "hit" for up in range(1, 11))


def test_the_two_goals_differ():
    """Who wants wins only gives up draws."""
    states = [(worth, soft, up) for soft in (False, True) for worth in range(12, 22) for up in range(1, 11)]
    assert 3 <= sum(best_action(*state, "wins") != best_action(*state, "return") for state in states) <= 20


def test_sampled_play_of_the_expert_and_of_random_agrees_within_its_error():
    """Four standard errors are allowed: of a win rate 0.78 %, of a return 0.015."""
    task, episodes = envs.make("gym_cards/Blackjack-v0")[1], 4000
    for name, policy, expected in (
        ("expert", lambda info, rng: json.loads(task.expert(info, rng))["action"], (0.4316, -0.0502)),
        ("random", lambda info, rng: ("stand", "hit")[rng.integers(2)], (0.2806, -0.396)),
    ):
        env, rng = Blackjack(), np.random.default_rng(0)
        env.reset(seed=0)
        returns = np.array([play(env, task, lambda info: policy(info, rng)) for _ in range(episodes)])  # noqa: B023
        for found, truth in ((returns > 0, expected[0]), (returns, expected[1])):
            assert abs(found.mean() - truth) < 4 * found.std() / episodes**0.5, name


def play(env, task, policy):
    """One episode's return."""
    _, info = env.reset()
    total, terminated = 0.0, False
    while not terminated:
        _, reward, terminated, _, info = env.step(task.env_action(policy(info), info))
        total += reward
    return total
