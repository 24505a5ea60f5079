import numpy as np
import pytest

from learner.algorithms.critic import CriticAdvantages
from learner.rows import gather_rows
from learner.targets import state_values


@pytest.fixture
def policy(world, make_policy):
    policy = make_policy(world)
    for parameter in policy.value_parameters().values():
        parameter.data += 0.2
    return policy


@pytest.fixture
def rows(world):
    return gather_rows([world.batch(world.mixed_steps())])


def value_of(policy, rows, prompt, digests):
    return float(state_values(policy, [prompt], [digests], rows.frames, 4096)[0])


def estimator(**changes):
    settings = {"gamma": 0.9, "gae_lambda": 0.95, "reward_scale": 1.0, "normalized": True, "token_budget": 4096}
    return CriticAdvantages(**(settings | {"bootstrap_truncated": True} | changes))


def test_targets_by_hand(policy, rows):
    """Trajectories: a, three steps, terminated; b, three steps, cut; c, one step, truncated."""
    targets = estimator(gae_lambda=0.0, reward_scale=0.5, normalized=False)(policy, rows)
    v = [value_of(policy, rows, p, d) for p, d in zip(rows.prompts, rows.digests, strict=True)]
    boot = [
        value_of(policy, rows, prompt, digests)
        for prompt, digests in zip(rows.bootstrap_prompts, rows.bootstrap_digests, strict=True)
        if prompt is not None
    ]
    expected = [
        0.0 + 0.9 * v[1] - v[0],
        -0.5 + 0.9 * v[2] - v[1],
        0.5 - v[2],
        0.0 + 0.9 * v[4] - v[3],
        0.25 + 0.9 * v[5] - v[4],
        -0.5 + 0.9 * boot[0] - v[5],
        1.0 + 0.9 * boot[1] - v[6],
    ]
    assert targets.old_values is not None
    np.testing.assert_allclose(targets.advantages.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(targets.returns.numpy(), np.array(expected) + v, atol=1e-5)
    np.testing.assert_allclose(targets.old_values.numpy(), v, atol=1e-6)
    assert not targets.old_values.requires_grad
    assert targets.trained_rows.tolist() == list(range(7))


def test_nothing_follows_the_step_limit_where_success_within_it_counts(policy, rows):
    """Only the truncated trajectory, whose one row is the last, differs; the cut one bootstraps as before."""
    settings = {"gae_lambda": 0.0, "normalized": False}
    as_usual, within = (estimator(bootstrap_truncated=on, **settings)(policy, rows) for on in (True, False))
    assert within.returns[:6].tolist() == pytest.approx(as_usual.returns[:6].tolist(), abs=1e-5)
    assert float(within.returns[6]) == pytest.approx(rows.rewards[6])
    boot = value_of(policy, rows, rows.bootstrap_prompts[-1], rows.bootstrap_digests[-1])
    assert float(as_usual.returns[6]) == pytest.approx(rows.rewards[6] + 0.9 * boot, abs=1e-5) and abs(boot) > 1e-3


def test_advantages_are_normalised_over_the_whole_update(policy, rows):
    targets = estimator()(policy, rows)
    assert float(targets.advantages.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(targets.advantages.std()) == pytest.approx(1.0, abs=1e-3)
