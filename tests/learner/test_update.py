from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from learner.batching import collate
from protocol.errors import TrajectoryError, UpdateDiverged
from protocol.trajectory import TokenRole
from tests.learner.plain_ppo import plain_update
from tests.learner.updates import WHOLE, generator, loop_of, rows_of, with_behavior
from tests.learner.world import COMPUTE, config


def test_the_first_ratio_is_one_for_rows_this_policy_sampled(either_world, make_policy):
    policy = make_policy(either_world)
    rows = rows_of(either_world, with_behavior(policy, either_world, either_world.mixed_steps()))
    metrics = loop_of(policy).update(rows, policy_version=0, generator=generator())
    assert metrics["ratio_first_minibatch_max_error"] < 1e-4
    assert metrics["behavior_log_prob_gap_max"] < 1e-5
    assert metrics["approx_kl"] > 1e-4  # later minibatches see a moved policy


def test_ppo_with_its_defaults_equals_a_plain_loop_bit_for_bit(either_world, make_policy):
    settings: dict[str, Any] = {"thought_weight": 0.3, "gamma": 0.95, "value_learning_rate": 3e-3}
    made, plain = make_policy(either_world), make_policy(either_world)
    loop, ppo = loop_of(made, **settings), config(**settings).ppo
    groups = [
        {"params": list(plain.adapter_parameters().values()), "lr": ppo.learning_rate},
        {"params": list(plain.value_parameters().values()), "lr": ppo.value_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    start = {n: p.detach().clone() for n, p in plain.adapter_parameters().items()}
    rows = rows_of(either_world, with_behavior(made, either_world, either_world.mixed_steps()))
    for version in range(2):
        loop.update(rows, policy_version=version, generator=generator(version))
        plain_update(plain, optimizer, rows, ppo, 256, generator(version))
    for ours, theirs in (
        (made.adapter_parameters(), plain.adapter_parameters()),
        (made.value_parameters(), plain.value_parameters()),
    ):
        assert all(torch.equal(p, theirs[n]) for n, p in ours.items())
    assert any(not torch.equal(p, start[n]) for n, p in made.adapter_parameters().items())


def test_minibatches_are_even_and_every_row_is_seen_once_per_epoch(world, make_policy):
    made = list(loop_of(make_policy(world), minibatch_size=4, epochs=3)._minibatches(np.arange(9), generator()))
    assert [len(part) for part in made] == [3, 3, 3] * 3
    epochs = [np.concatenate(made[i : i + 3]) for i in (0, 3, 6)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(9))] * 3
    assert epochs[0].tolist() != epochs[1].tolist()


def test_early_stop_makes_one_step_and_no_more(world, make_policy):
    policy = make_policy(world)
    rows = rows_of(world, with_behavior(policy, world, world.mixed_steps()))
    metrics = loop_of(policy, kl_early_stop=1e-7, epochs=5).update(rows, policy_version=0, generator=generator())
    assert metrics["optimizer_steps"] == 1
    assert metrics["stopped_early"] == 1
    assert all(p.grad is None for p in policy.adapter_parameters().values())


def test_warmup_and_learning_rates(world, make_policy):
    rows = rows_of(world, world.mixed_steps())
    made = loop_of(make_policy(world), warmup_updates=3, learning_rate=0.01, value_learning_rate=0.1)
    rates = []
    for version in (0, 1, 5):
        metrics = made.update(rows, policy_version=version, generator=generator())
        rates.append((metrics["learning_rate"], made.optimizer.param_groups[1]["lr"]))
    assert rates == [pytest.approx((0.0025, 0.025)), pytest.approx((0.005, 0.05)), pytest.approx((0.01, 0.1))]


def test_a_non_finite_loss_is_not_applied(world, make_policy):
    policy = make_policy(world)
    before = {n: p.detach().clone() for n, p in policy.adapter_parameters().items()}
    steps = world.mixed_steps()
    steps[0] = replace(steps[0], reward=float("inf"))
    with pytest.raises(UpdateDiverged):
        loop_of(policy).update(rows_of(world, steps), policy_version=0, generator=generator())
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
    made = loop_of(policy, clip=0.2, minibatch_size=8, epochs=4, learning_rate=3e-3, value_learning_rate=1e-2)
    for version in range(4):
        steps = [step(i, plus if i % 2 else minus, 1.0 if i % 2 else -1.0) for i in range(16)]
        rows = rows_of(world, with_behavior(policy, world, steps))
        metrics = made.update(rows, policy_version=version, generator=generator(version))
    assert action_gap() > before + 0.5
    assert abs(metrics["value_mean"]) < 0.3


def test_the_critic_approaches_the_returns(world, make_policy):
    policy = make_policy(world)
    made = loop_of(policy, value_learning_rate=1e-2, epochs=8)
    rows = rows_of(world, [world.step(trajectory=str(i), reward=2.0) for i in range(8)])
    losses = [made.update(rows, policy_version=v, generator=generator(v))["value_loss"] for v in range(4)]
    assert losses[-1] < 0.1 * losses[0]


def test_learning_rates_follow_the_schedule_and_stay_down(world, make_policy):
    rows = rows_of(world, world.mixed_steps())
    settings: dict[str, Any] = {
        "learning_rate_schedule": "cosine",
        "learning_rate_updates": 4,
        "learning_rate_final_factor": 0.1,
    }
    loop = loop_of(make_policy(world), learning_rate=0.01, epochs=1, **settings)
    rates = [
        loop.update(rows, policy_version=v, generator=generator())["learning_rate"] / 0.01 for v in (0, 2, 4, 6, 8)
    ]
    assert rates == pytest.approx([1.0, 0.55, 0.1, 0.1, 0.1])


def test_an_update_without_whole_episodes_changes_nothing(world, make_policy):
    policy = make_policy(world)
    before = {n: p.detach().clone() for n, p in policy.adapter_parameters().items()}
    cut = [s for s in world.mixed_steps() if s.trajectory_id == "b"]
    with pytest.raises(TrajectoryError, match="None of the 1 episodes in 3 rows is whole"):
        loop_of(policy, sections={"algorithm": "grpo"}).update(
            rows_of(world, cut), policy_version=0, generator=generator()
        )
    assert all(torch.equal(before[n], p) for n, p in policy.adapter_parameters().items())


def test_a_value_that_has_moved_beyond_its_clip_is_not_pushed_on(world, make_policy):
    """Only the critic notices: its gradient does not reach the adapter."""
    ended = []
    for value_clip in (None, 1e-6):
        policy = make_policy(world)
        rows = rows_of(world, with_behavior(policy, world, world.mixed_steps()))
        settings: dict[str, Any] = {"minibatch_size": 100, "epochs": 6, "value_learning_rate": 3e-3}
        metrics = loop_of(policy, value_clip=value_clip, **settings).update(
            rows, policy_version=0, generator=generator()
        )
        ended.append((metrics["value_loss"], policy.adapter_parameters(), policy.value_parameters()))
    (free, adapter, values), (clipped, same, others) = ended
    assert clipped > free
    assert all(torch.equal(p, same[n]) for n, p in adapter.items())
    assert any(not torch.equal(p, others[n]) for n, p in values.items())


def test_a_fused_optimizer_makes_the_same_steps(world, make_policy):
    ended = []
    for fused in (False, True):
        policy = make_policy(world)
        rows = rows_of(world, with_behavior(policy, world, world.mixed_steps()))
        compute = COMPUTE.model_copy(update={"fused_optimizer": fused})
        loop = loop_of(policy, sections={"compute": compute})
        assert loop.optimizer.defaults["fused"] is (True if fused else None)
        loop.update(rows, policy_version=0, generator=generator())
        ended.append(policy.adapter_parameters() | policy.value_parameters())
    plain, fast = ended
    for name, parameter in plain.items():
        torch.testing.assert_close(fast[name], parameter, atol=1e-5, rtol=1e-4)


def test_an_update_in_bfloat16_has_nearly_the_gradient_of_float32(world, make_policy, recorded):
    steps = with_behavior(make_policy(world), world, world.mixed_steps())
    for precision in ("float32", "bfloat16"):
        compute = COMPUTE.model_copy(update={"precision": precision})
        policy = make_policy(world, compute=compute)
        metrics = loop_of(policy, sections={"compute": compute}, **WHOLE).update(
            rows_of(world, steps), policy_version=0, generator=generator()
        )
        assert all(p.dtype is torch.float32 for p in policy.adapter_parameters().values())
        assert metrics["ratio_first_minibatch_max_error"] < 0.5
    exact, half = (torch.cat([g.flatten() for g in gradients]) for gradients in recorded)
    assert half.dtype is torch.float32
    cosine = torch.nn.functional.cosine_similarity(exact, half, dim=0)
    assert 0.9 < float(cosine) < 1, "rounded, and only that"
