"""Every algorithm learns: mean reward of a game for two words, really sampled from the policy at every update."""

from typing import get_args

import pytest
import torch

from learner.algorithms.config import SINGLE_PASS_ALGORITHMS, AlgorithmName
from tests.learner.bandit import Bandit
from tests.learner.updates import generator, loop_of

VARIANTS = {
    "grpo-task": {"algorithm": "grpo", "grpo": {"normalization": "task"}},
    "grpo-none-sum": {"algorithm": "grpo", "grpo": {"normalization": "none"}, "token_loss": {"reduction": "sum"}},
    "vl_dac-action": {"algorithm": "vl_dac", "token_loss": {"weights": "action"}},
    "ppo-truncated": {"algorithm": "ppo", "importance": {"mode": "truncated"}},
}


def learn(world, make_policy, sections, *, updates=4, **ppo):
    """Mean rewards of the rollouts, metrics of the updates, and the policy."""
    bandit = Bandit(world)
    policy = make_policy(world, banned_token_ids=bandit.banned)
    settings = {"minibatch_size": 16, "epochs": 2, "gamma": 0.5, "clip": 0.2, **ppo}
    loop = loop_of(policy, 4096, sections, **settings)
    rewards, metrics = [], []
    for version in range(updates):
        draw = generator(version)
        rows = bandit.play(policy, draw, version=version)
        rewards.append(float(rows.rewards.mean()))
        metrics.append(loop.update(rows, policy_version=version, generator=draw))
    return rewards, metrics, policy


@pytest.mark.parametrize("name", get_args(AlgorithmName))
def test_rewards_rise(world, make_policy, name):
    check_rewards_rise(world, make_policy, {"algorithm": name})


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_rewards_rise_with_other_settings(world, make_policy, name):
    check_rewards_rise(world, make_policy, VARIANTS[name])


def check_rewards_rise(world, make_policy, sections):
    epochs = 1 if sections["algorithm"] in SINGLE_PASS_ALGORITHMS else 2
    rewards, metrics, policy = learn(world, make_policy, sections, epochs=epochs)
    assert rewards[0] < 0.5
    assert rewards[-1] > 0.9
    assert max(m["ratio_first_minibatch_max_error"] for m in metrics) < 1e-4
    untouched = all(not bool(p.any()) for n, p in policy.value_parameters().items() if "layers.2" in n)
    assert untouched == ("value_mean" not in metrics[-1])


@pytest.mark.slow
def test_a_balanced_lambda_learns_too(world, make_policy):
    rewards, metrics, _ = learn(world, make_policy, {}, thought_weight_rule="auto")
    assert rewards[-1] > 0.9
    weights = [m["thought_weight"] for m in metrics]
    assert weights[0] == pytest.approx(0.5)
    assert all(0.05 <= weight <= 1.0 for weight in weights)
    assert len(set(weights)) > 2


@pytest.mark.slow
def test_stale_rows_still_teach_with_decoupled_policies(world, make_policy):
    """Every rollout is used two updates late; the correction looks at stale rows only."""
    bandit = Bandit(world)
    policy = make_policy(world, banned_token_ids=bandit.banned)
    sections = {"importance": {"mode": "full", "rows": "stale"}}
    loop = loop_of(policy, 4096, sections, minibatch_size=16, gamma=0.5, clip=0.2, learning_rate=3e-3)
    late, rewards = [], []
    for version in range(8):
        draw = generator(version)
        late.append(bandit.play(policy, draw, version=version))
        rewards.append(float(late[-1].rewards.mean()))
        loop.update(late[max(0, version - 2)], policy_version=version, generator=draw)
    assert rewards[-1] > rewards[0] + 0.3


@pytest.mark.slow
def test_the_entropy_bonus_keeps_the_policy_undecided(world, make_policy):
    entropies = [
        learn(world, make_policy, {}, entropy_coefficient=coefficient)[1][-1]["entropy"] for coefficient in (1e-6, 10.0)
    ]
    assert entropies[0] < 0.5 * entropies[1]
    assert entropies[1] == pytest.approx(float(torch.tensor(2.0).log()), abs=0.1)
