import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.batching import collate
from learner.config import LoraConfig
from learner.ppo import PPO
from learner.rows import gather_rows
from protocol.errors import UpdateDiverged
from protocol.trajectory import TokenRole
from tests.learner.world import config


def rows_of(world, steps):
    return gather_rows([world.batch(steps)])


def with_behavior(policy, world, steps):
    """The same steps with this policy's own log-probs, each computed in a batch of its own."""
    made = []
    for step in steps:
        rows = rows_of(world, [step])
        with torch.no_grad():
            log_probs = policy.log_probs(collate(rows, np.array([0]), policy.backbone.pad_id))
        made.append(replace(step, behavior_log_probs=log_probs[0].numpy()))
    return made


def algorithm(policy, budget=256, **ppo):
    return PPO(policy, config(**ppo).ppo, budget)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gradients(policy):
    parameters = policy.adapter_parameters() | policy.value_parameters()
    return {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}


@pytest.fixture
def recorded(monkeypatch):
    """Gradients of each optimizer step, taken just before it is applied."""
    import learner.ppo

    taken = []
    original = learner.ppo.clipped_step

    def record(optimizer, groups, **kwargs):
        taken.append([p.grad.clone() for _, parameters in groups for p in parameters])
        return original(optimizer, groups, **kwargs)

    monkeypatch.setattr(learner.ppo, "clipped_step", record)
    return taken


def test_the_first_ratio_is_one_for_rows_this_policy_sampled(either_world, make_policy):
    policy = make_policy(either_world)
    rows = rows_of(either_world, with_behavior(policy, either_world, either_world.mixed_steps()))
    metrics = algorithm(policy).update(rows, policy_version=0, generator=generator())
    assert metrics["ratio_first_minibatch_max_error"] < 1e-4
    assert metrics["behavior_log_prob_gap_max"] < 1e-5
    assert metrics["approx_kl"] > 1e-4  # later minibatches see a moved policy


def test_the_first_ratio_shows_a_foreign_sampler_and_skips_older_rows(world, make_policy):
    policy = make_policy(world)
    steps = with_behavior(policy, world, world.mixed_steps())
    shifted = [replace(s, behavior_log_probs=s.behavior_log_probs - 0.125) for s in steps]
    whole = {"minibatch_size": 100, "epochs": 1}
    metrics = algorithm(policy, **whole).update(rows_of(world, shifted), policy_version=0, generator=generator())
    tokens = [0.5 * (s.token_roles == 0).sum() + (s.token_roles == 1).sum() for s in steps]
    assert metrics["ratio_first_minibatch_max_error"] == pytest.approx(math.expm1(0.125 * max(tokens)), rel=1e-3)
    assert metrics["behavior_log_prob_gap_mean"] == pytest.approx(0.125, abs=1e-4)
    older = algorithm(make_policy(world), **whole).update(
        rows_of(world, shifted), policy_version=3, generator=generator()
    )
    assert "ratio_first_minibatch_max_error" not in older


@pytest.mark.parametrize("scope", ["language", "all"])
def test_microbatches_change_no_gradient(either_world, make_policy, recorded, scope):
    lora = LoraConfig(rank=4, alpha=8, targets=scope)
    for budget in (1, 150, 100_000):
        policy = make_policy(either_world, lora=lora)
        for p in policy.adapter_parameters().values():
            p.data += 0.05
        rows = rows_of(either_world, either_world.mixed_steps())
        metrics = algorithm(policy, budget, minibatch_size=100, epochs=1).update(
            rows, policy_version=0, generator=generator()
        )
        assert metrics["optimizer_steps"] == 1
    alone, some, together = recorded
    assert any(g.abs().max() > 1e-4 for g in together)
    for a, b, c in zip(alone, some, together, strict=True):
        torch.testing.assert_close(a, c, atol=2e-6, rtol=1e-4)
        torch.testing.assert_close(b, c, atol=2e-6, rtol=1e-4)


def test_the_gradient_is_that_of_the_losses_written_out(world, make_policy, recorded):
    """One minibatch against a loop over rows; behaviour log-probs put the ratios on both sides of the clip."""
    settings = {"minibatch_size": 100, "epochs": 1, "thought_weight": 0.25, "max_grad_norm": 1e9, "gamma": 0.9}
    policy = make_policy(world)
    steps = with_behavior(policy, world, world.mixed_steps())
    shifts = np.array([0.0, 0.3, -0.3, 0.02, -0.02, 3.0, 0.0], dtype=np.float32)
    steps = [
        replace(s, behavior_log_probs=s.behavior_log_probs - shift / len(s.behavior_log_probs))
        for s, shift in zip(steps, shifts, strict=True)
    ]
    rows = rows_of(world, steps)
    algorithm(policy, **settings).update(rows, policy_version=0, generator=generator())

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
            log_ratio = log_ratio + weight * (evaluation.log_probs[0, t] - float(step.behavior_log_probs[t]))
        ratio, advantage = log_ratio.exp(), (advantages[i] - mean) / (deviation + 1e-5)
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.9, 1.1) * advantage)
        squared = (evaluation.values[0] - advantages[i]) ** 2
        total = total - surrogate + 0.5 * 0.5 * squared
    (total / len(steps)).backward()
    expected = [p.grad for p in (twin.adapter_parameters() | twin.value_parameters()).values()]
    assert len(recorded) == 1
    for found, wanted in zip(recorded[0], expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-3)


def test_minibatches_are_even_and_every_row_is_seen_once_per_epoch(world, make_policy):
    made = list(algorithm(make_policy(world), minibatch_size=4, epochs=3)._minibatches(9, generator()))
    assert [len(part) for part in made] == [3, 3, 3] * 3
    epochs = [np.concatenate(made[i : i + 3]) for i in (0, 3, 6)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(9))] * 3
    assert epochs[0].tolist() != epochs[1].tolist()


def test_early_stop_makes_one_step_and_no_more(world, make_policy):
    policy = make_policy(world)
    rows = rows_of(world, with_behavior(policy, world, world.mixed_steps()))
    metrics = algorithm(policy, kl_early_stop=1e-7, epochs=5).update(rows, policy_version=0, generator=generator())
    assert metrics["optimizer_steps"] == 1
    assert metrics["stopped_early"] == 1
    assert all(p.grad is None for p in policy.adapter_parameters().values())


def test_warmup_and_learning_rates(world, make_policy):
    rows = rows_of(world, world.mixed_steps())
    made = algorithm(make_policy(world), warmup_updates=3, learning_rate=0.01, value_learning_rate=0.1)
    rates = []
    for version in (0, 1, 5):
        metrics = made.update(rows, policy_version=version, generator=generator())
        rates.append((metrics["learning_rate"], made.optimizer.param_groups[1]["lr"]))
    assert rates == [pytest.approx((0.0025, 0.025)), pytest.approx((0.005, 0.05)), pytest.approx((0.01, 0.1))]


def test_gradient_clipping_clips(world, make_policy, monkeypatch):
    import learner.ppo

    norms = []
    original = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        for group in self.param_groups:
            norms.append(float(torch.stack([p.grad.norm() for p in group["params"]]).norm()))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(learner.ppo.torch.optim.AdamW, "step", step)
    metrics = algorithm(make_policy(world), max_grad_norm=1e-3).update(
        rows_of(world, world.mixed_steps()), policy_version=0, generator=generator()
    )
    assert norms
    assert max(norms) <= 1.001e-3
    assert metrics["value_grad_norm"] > 1e-2


def test_a_non_finite_loss_is_not_applied(world, make_policy):
    policy = make_policy(world)
    before = {n: p.detach().clone() for n, p in policy.adapter_parameters().items()}
    steps = world.mixed_steps()
    steps[0] = replace(steps[0], reward=float("inf"))
    with pytest.raises(UpdateDiverged):
        algorithm(policy).update(rows_of(world, steps), policy_version=0, generator=generator())
    assert all(torch.equal(before[n], p) for n, p in policy.adapter_parameters().items())


def test_a_rewarded_action_becomes_likely_and_the_critic_learns_its_value(world, make_policy):
    """A bandit: in one state "+" pays 1 and "-" pays -1. Thoughts are equal, the action token differs."""
    policy = make_policy(world)
    plus, minus = (world.tokenizer.encode(sign, add_special_tokens=False)[0] for sign in "+-")
    shared = world.response((1, 4))
    place = int(np.flatnonzero(shared == plus)[-1])

    def step(i, token, reward):
        tokens = shared.copy()
        tokens[place] = token
        roles = np.where(np.arange(len(tokens)) < place, TokenRole.THOUGHT, TokenRole.ACTION)
        return world.step(
            trajectory=str(i), response_token_ids=tokens, token_roles=roles.astype(np.int8), reward=reward
        )

    def action_gap():
        rows = rows_of(world, [step(0, plus, 1.0), step(1, minus, -1.0)])
        with torch.no_grad():
            log_probs = policy.log_probs(collate(rows, np.arange(2), policy.backbone.pad_id))
        return float(log_probs[0, place] - log_probs[1, place])

    before = action_gap()
    made = algorithm(policy, clip=0.2, minibatch_size=8, epochs=4, learning_rate=3e-3, value_learning_rate=1e-2)
    for version in range(4):
        steps = [step(i, plus if i % 2 else minus, 1.0 if i % 2 else -1.0) for i in range(16)]
        rows = rows_of(world, with_behavior(policy, world, steps))
        metrics = made.update(rows, policy_version=version, generator=generator(version))
    assert action_gap() > before + 0.5
    assert abs(metrics["value_mean"]) < 0.3


def test_the_critic_approaches_the_returns(world, make_policy):
    policy = make_policy(world)
    made = algorithm(policy, value_learning_rate=1e-2, epochs=8)
    rows = rows_of(world, [world.step(trajectory=str(i), reward=2.0) for i in range(8)])
    losses = [made.update(rows, policy_version=v, generator=generator(v))["value_loss"] for v in range(4)]
    assert losses[-1] < 0.1 * losses[0]
