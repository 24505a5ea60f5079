import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from learner.algorithms.registry import build_algorithm
from learner.batching import collate
from learner.losses import response_log_probs
from tests.learner.updates import generator, loop_of, rows_of, with_behavior
from tests.learner.world import config


def test_metrics_are_split_by_environment_only_where_there_are_several(world, make_policy):
    steps = [
        world.step(trajectory=str(i), reward=float(i), env_id=("cards", "house")[i % 2], legal=i != 1) for i in range(4)
    ]
    metrics = loop_of(make_policy(world)).update(rows_of(world, steps), policy_version=0, generator=generator())
    assert (metrics["reward_mean/cards"], metrics["reward_mean/house"]) == (1.0, 2.0)
    assert (metrics["invalid_rate/cards"], metrics["invalid_rate/house"]) == (0.0, 0.5)
    assert (metrics["return_mean/cards"], metrics["return_mean/house"]) == (1.0, 2.0)
    assert metrics["rows/cards"] == 2
    both = (metrics["approx_kl/cards"] + metrics["approx_kl/house"]) / 2
    assert both == pytest.approx(metrics["approx_kl"], rel=1e-4)
    alone = loop_of(make_policy(world)).update(rows_of(world, steps[::2]), policy_version=0, generator=generator())
    assert not [name for name in alone if "/" in name]


def test_the_first_ratio_shows_a_foreign_sampler_and_skips_older_rows(world, make_policy):
    policy = make_policy(world)
    steps = with_behavior(policy, world, world.mixed_steps())
    shifted = [replace(s, behavior_log_probs=s.behavior_log_probs - 0.125) for s in steps]
    whole = {"minibatch_size": 100, "epochs": 1}
    metrics = loop_of(policy, **whole).update(rows_of(world, shifted), policy_version=0, generator=generator())
    tokens = [0.5 * (s.token_roles == 0).sum() + (s.token_roles == 1).sum() for s in steps]
    assert metrics["ratio_first_minibatch_max_error"] == pytest.approx(math.expm1(0.125 * max(tokens)), rel=1e-3)
    assert metrics["behavior_log_prob_gap_mean"] == pytest.approx(0.125, abs=1e-4)
    older = loop_of(make_policy(world), **whole).update(
        rows_of(world, shifted), policy_version=3, generator=generator()
    )
    assert "ratio_first_minibatch_max_error" not in older


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_ratios_are_those_that_the_loss_takes(world, make_policy, weight):
    """A shift of every token by 0.125 nats: per token where tokens are clipped, whatever lambda; per response else."""
    shifted = [
        replace(s, behavior_log_probs=s.behavior_log_probs - 0.125)
        for s in with_behavior(make_policy(world), world, world.mixed_steps())
    ]
    whole: dict[str, Any] = {"minibatch_size": 100, "epochs": 1, "clip": 0.2, "thought_weight": weight}
    rows = rows_of(world, shifted)
    tokens = loop_of(make_policy(world), sections={"algorithm": "vl_dac"}, **whole)
    found = tokens.update(rows, policy_version=0, generator=generator())
    for name in ("ratio_mean", "ratio_min", "ratio_max"):
        assert found[name] == pytest.approx(math.exp(0.125), rel=1e-4)
    assert (found["clip_fraction"], found["ratio_outside_10_percent"]) == (0, 1)
    found = loop_of(make_policy(world), **whole).update(rows, policy_version=0, generator=generator())
    ratios = [math.exp(0.125 * (weight * (s.token_roles == 0).sum() + (s.token_roles == 1).sum())) for s in shifted]
    assert found["ratio_mean"] == pytest.approx(np.mean(ratios), rel=1e-4)
    assert (found["ratio_min"], found["ratio_max"]) == pytest.approx((min(ratios), max(ratios)), rel=1e-4)
    assert found["clip_fraction"] == pytest.approx(np.mean([r > 1.2 for r in ratios]))
    assert found["ratio_above_10"] == pytest.approx(np.mean([r > 10 for r in ratios]))


def test_log_probs_of_spans_and_explained_variance_are_reported(world, make_policy):
    policy, twin = make_policy(world), make_policy(world)
    for each in (policy, twin):
        with torch.no_grad():
            for parameter in each.value_parameters().values():  # a fresh critic explains nothing
                parameter += 0.05
    rows = rows_of(world, with_behavior(policy, world, world.mixed_steps()))
    metrics = loop_of(policy, minibatch_size=100, epochs=1).update(rows, policy_version=0, generator=generator())
    spans = []
    for i in range(len(rows)):
        with torch.no_grad():
            log_probs = twin.log_probs(collate(rows, np.array([i]), 0))
        roles = torch.tensor(rows.roles[i])[None]
        spans.append(response_log_probs(log_probs, roles, torch.ones_like(roles, dtype=torch.bool), 1.0))
    assert metrics["thought_log_prob"] == pytest.approx(np.mean([float(s.thought) for s in spans]), rel=1e-4)
    assert metrics["action_log_prob"] == pytest.approx(np.mean([float(s.action) for s in spans]), rel=1e-4)
    targets = build_algorithm(config()).estimate(twin, rows)
    assert targets.old_values is not None
    unexplained = (targets.returns - targets.old_values).var(correction=0) / targets.returns.var(correction=0)
    assert metrics["explained_variance"] == pytest.approx(1 - float(unexplained), rel=1e-4)
