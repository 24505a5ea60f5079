import math
from dataclasses import replace

import pytest

from tests.learner.updates import generator, loop_of, rows_of, with_behavior


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
