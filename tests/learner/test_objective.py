import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from learner.algorithms.registry import build_algorithm
from learner.batching import collate
from learner.config import LoraConfig
from protocol.trajectory import TokenRole
from tests.learner.test_policy import perturb
from tests.learner.updates import WHOLE, generator, loop_of, rows_of, shifted_rows, with_behavior
from tests.learner.world import config


def moved(policy):
    """The policy with its adapter away from 0."""
    perturb(policy, 0.1)
    return policy


def test_kl_and_entropy_have_the_gradient_of_their_formulas(world, make_policy, recorded):
    """The update's gradient with the terms, minus that without them, against a loop over rows."""
    steps = with_behavior(make_policy(world), world, world.mixed_steps())
    terms: dict[str, Any] = {"reference_kl_coefficient": 0.3, "entropy_coefficient": 0.7}
    for extra in (dict[str, Any](), terms):
        policy = moved(make_policy(world))
        metrics = loop_of(policy, **WHOLE, **extra).update(
            rows_of(world, steps), policy_version=0, generator=generator()
        )
    without, found = recorded

    twin, base = moved(make_policy(world)), make_policy(world)
    total, kls, entropies = torch.zeros(()), [], []
    for step in steps:
        batch = collate(rows_of(world, [step]), np.array([0]), 0)
        hidden = twin.backbone.hidden_states(batch)
        scores = twin.backbone.token_scores(batch, hidden, twin.banned_mask, entropies=True)
        assert scores.entropies is not None
        with torch.no_grad():
            reference = base.log_probs(batch)
        difference = reference - scores.log_probs
        kls.append((difference.exp() - 1 - difference).mean())
        entropies.append(scores.entropies.mean())
        total = total + 0.3 * kls[-1] - 0.7 * entropies[-1]
    (total / len(steps)).backward()
    assert metrics["reference_kl"] == pytest.approx(float(torch.stack(kls).mean().detach()), rel=1e-4)
    assert metrics["entropy"] == pytest.approx(float(torch.stack(entropies).mean().detach()), rel=1e-4)
    wanted = [p.grad for p in twin.adapter_parameters().values()]
    for with_terms, plain, gradient in zip(found, without, wanted, strict=False):  # value head has none
        torch.testing.assert_close(with_terms - plain, gradient, atol=2e-6, rtol=1e-3)
    assert max(float(g.abs().max()) for g in wanted if g is not None) > 1e-4


def test_the_penalty_holds_the_policy_near_the_base_model(world, make_policy):
    kls = []
    for coefficient in (0.01, 100.0):
        policy = moved(make_policy(world))
        loop = loop_of(policy, reference_kl_coefficient=coefficient, learning_rate=3e-3)
        rows = rows_of(world, with_behavior(policy, world, world.mixed_steps()))
        kls.append([loop.update(rows, policy_version=0, generator=generator())["reference_kl"] for _ in range(4)])
    assert kls[1][-1] < 0.5 * kls[1][0]
    assert kls[1][-1] < kls[0][-1]


def test_a_correction_takes_the_ratio_from_the_start_of_the_update(world, make_policy, recorded):
    """Gradient: the weight times REINFORCE's, because the ratio against the learner's own log-probs is 1."""
    rows = shifted_rows(world, make_policy, [3])
    sections = {"importance": {"mode": "truncated", "threshold": 1.3}}
    metrics = loop_of(make_policy(world), sections=sections, **WHOLE).update(
        rows, policy_version=3, generator=generator()
    )
    assert metrics["ratio_max"] == pytest.approx(1.0, abs=1e-4)
    assert metrics["ratio_first_minibatch_max_error"] > 0.1  # against the sampler it is not
    twin = make_policy(world)
    targets = build_algorithm(config()).estimate(twin, rows)
    total = torch.zeros(())
    for i in range(len(rows)):
        log_probs = twin.log_probs(collate(rows, np.array([i]), 0))[0]
        weight = torch.tensor([{0: 0.5, 1: 1.0}[int(role)] for role in rows.roles[i]])
        total = (
            total - min(1.3, math.exp(0.1 * float(weight.sum()))) * targets.advantages[i] * (weight * log_probs).sum()
        )
    (total / len(rows)).backward()
    for found, parameter in zip(recorded[0], twin.adapter_parameters().values(), strict=False):
        torch.testing.assert_close(found, parameter.grad, atol=2e-5, rtol=2e-3)


def test_every_row_has_its_own_lambda(world, make_policy, recorded):
    """Two environments in one update are as their two gradients apart, each with its lambda."""
    steps = with_behavior(make_policy(world), world, [world.step(trajectory=str(i), reward=float(i)) for i in range(4)])
    steps = [replace(s, task=("a/x", "b")[i % 2]) for i, s in enumerate(steps)]
    settings: dict[str, Any] = {**WHOLE, "normalize_advantages": False, "value_coefficient": 0.0}
    mixed = loop_of(make_policy(world), thought_weights={"a": 0.1, "b": 0.9}, **settings)
    metrics = mixed.update(rows_of(world, steps), policy_version=0, generator=generator())
    for i, weight in enumerate((0.1, 0.9)):
        loop_of(make_policy(world), thought_weight=weight, **settings).update(
            rows_of(world, steps[i::2]), policy_version=0, generator=generator()
        )
    together, first, second = recorded
    for found, a, b in zip(together, first, second, strict=True):
        torch.testing.assert_close(found, (a + b) / 2, atol=1e-6, rtol=1e-4)
    assert (metrics["thought_weight/a"], metrics["thought_weight/b"]) == pytest.approx((0.1, 0.9))
    assert metrics["thought_weight"] == pytest.approx(0.5)


def test_the_gradient_is_that_of_the_losses_written_out(world, make_policy, recorded):
    """One minibatch against a loop over rows; behaviour log-probs put the ratios on both sides of the clip."""
    settings: dict[str, Any] = {
        "minibatch_size": 100,
        "epochs": 1,
        "thought_weight": 0.25,
        "max_grad_norm": 1e9,
        "gamma": 0.9,
    }
    policy = make_policy(world)
    steps = with_behavior(policy, world, world.mixed_steps())
    shifts = np.array([0.0, 0.3, -0.3, 0.02, -0.02, 3.0, 0.0], dtype=np.float32)
    steps = [
        replace(s, behavior_log_probs=s.behavior_log_probs - shift / len(s.behavior_log_probs))
        for s, shift in zip(steps, shifts, strict=True)
    ]
    rows = rows_of(world, steps)
    loop_of(policy, **settings).update(rows, policy_version=0, generator=generator())

    twin = make_policy(world)
    rewards, last = rows.rewards.tolist(), rows.last_rows.tolist()
    advantages, running = [0.0] * len(rewards), 0.0
    for i in reversed(range(len(rewards))):  # a fresh critic says 0: advantages are discounted rewards
        running = rewards[i] + (0.0 if i in last else 0.9 * 0.95 * running)
        advantages[i] = running
    mean = sum(advantages) / len(advantages)
    deviation = math.sqrt(sum((a - mean) ** 2 for a in advantages) / (len(advantages) - 1))
    total = torch.zeros(())
    for i, step in enumerate(steps):
        evaluation = twin.evaluate(collate(rows, np.array([i]), 0))
        log_ratio = torch.zeros(())
        for t, role in enumerate(step.token_roles):
            weight = {TokenRole.THOUGHT: 0.25, TokenRole.ACTION: 1.0, TokenRole.FORMAT: 0.0}[TokenRole(int(role))]
            log_ratio = log_ratio + weight * (evaluation.tokens.log_probs[0, t] - float(step.behavior_log_probs[t]))
        ratio, advantage = log_ratio.exp(), (advantages[i] - mean) / (deviation + 1e-5)
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.9, 1.1) * advantage)
        squared = (evaluation.values[0] - advantages[i]) ** 2
        total = total - surrogate + 0.5 * 0.5 * squared
    (total / len(steps)).backward()
    expected = [p.grad for p in (twin.adapter_parameters() | twin.value_parameters()).values()]
    assert len(recorded) == 1
    for found, wanted in zip(recorded[0], expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("scope", ["language", "all"])
def test_microbatches_change_no_gradient(either_world, make_policy, recorded, scope):
    lora = LoraConfig.model_validate({"rank": 4, "alpha": 8, "targets": scope})
    for budget in (1, 150, 100_000):
        policy = make_policy(either_world, lora=lora)
        for p in policy.adapter_parameters().values():
            p.data += 0.05
        rows = rows_of(either_world, either_world.mixed_steps())
        metrics = loop_of(policy, budget, minibatch_size=100, epochs=1).update(
            rows, policy_version=0, generator=generator()
        )
        assert metrics["optimizer_steps"] == 1
    alone, some, together = recorded
    assert any(g.abs().max() > 1e-4 for g in together)
    for a, b, c in zip(alone, some, together, strict=True):
        torch.testing.assert_close(a, c, atol=2e-6, rtol=1e-4)
        torch.testing.assert_close(b, c, atol=2e-6, rtol=1e-4)
