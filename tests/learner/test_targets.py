import numpy as np
import pytest
import torch

from learner.config import PPOConfig
from learner.rows import gather_rows
from learner.targets import compute_targets, state_values


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


def test_values_do_not_depend_on_the_token_budget(policy, rows):
    one_by_one, together = (
        state_values(policy, rows.prompts, rows.digests, rows.frames, budget) for budget in (1, 10_000)
    )
    torch.testing.assert_close(one_by_one, together)
    assert len(set(together.tolist())) > 1


def test_equal_states_are_valued_once_and_told_apart_by_frame(policy, rows, monkeypatch):
    sizes = []
    original = policy.values
    monkeypatch.setattr(policy, "values", lambda batch: sizes.append(len(batch.input_ids)) or original(batch))
    prompts = [rows.prompts[0], rows.prompts[1], rows.prompts[0]]
    values = state_values(policy, prompts, [rows.digests[i] for i in (0, 1, 0)], rows.frames, 4096)
    assert sum(sizes) == 2
    assert values[0] == values[2] != values[1]


def test_targets_by_hand(policy, rows):
    """Trajectories: a, three steps, terminated; b, three steps, cut; c, one step, truncated."""
    config = PPOConfig(gamma=0.9, gae_lambda=0.0, reward_scale=0.5, normalize_advantages=False)
    targets = compute_targets(policy, rows, config, 4096)
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
    np.testing.assert_allclose(targets.advantages.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(targets.returns.numpy(), np.array(expected) + v, atol=1e-5)
    np.testing.assert_allclose(targets.old_values.numpy(), v, atol=1e-6)
    assert not targets.old_values.requires_grad


def test_advantages_are_normalised_over_the_whole_update(policy, rows):
    targets = compute_targets(policy, rows, PPOConfig(), 4096)
    assert float(targets.advantages.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(targets.advantages.std()) == pytest.approx(1.0, abs=1e-3)
