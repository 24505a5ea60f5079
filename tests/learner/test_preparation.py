import math

import pytest
import torch

from tests.learner.updates import WHOLE, generator, loop_of, shifted_rows


def test_only_stale_rows_are_corrected_if_so_asked_and_without_them_no_pass_is_made(world, make_policy, monkeypatch):
    import learner.preparation

    scored = []
    original = learner.preparation.sampled_log_probs

    def record(policy, rows, index, budget):
        scored.append(len(index))
        return original(policy, rows, index, budget)

    monkeypatch.setattr(learner.preparation, "sampled_log_probs", record)
    sections = {"importance": {"mode": "masked", "rows": "stale", "threshold": 1.01}}
    loop = loop_of(make_policy(world), sections=sections, **WHOLE)
    metrics = loop.update(shifted_rows(world, make_policy, [3, 2]), policy_version=3, generator=generator())
    assert metrics["importance_tokens_outside"] == pytest.approx(3 / 7)
    fresh = loop.update(shifted_rows(world, make_policy, [3]), policy_version=3, generator=generator())
    assert fresh["importance_weight_max"] == 1.0
    assert scored == [3, 0]


def test_measuring_importance_changes_no_weight(world, make_policy):
    adapters = []
    for mode in ("off", "metrics"):
        policy = make_policy(world)
        sections = {"importance": {"mode": mode, "threshold": 1.05}}
        metrics = loop_of(policy, sections=sections).update(
            shifted_rows(world, make_policy, [3]), policy_version=3, generator=generator()
        )
        adapters.append(policy.adapter_parameters())
    assert all(torch.equal(p, adapters[1][n]) for n, p in adapters[0].items())
    assert metrics["importance_tokens_outside"] == pytest.approx(1.0)
    tokens = [0.5 * (s.token_roles == 0).sum() + (s.token_roles == 1).sum() for s in world.mixed_steps()]
    weights = [math.exp(0.1 * t) for t in tokens]
    assert metrics["importance_weight_mean"] == pytest.approx(sum(weights) / len(weights), rel=1e-3)
    assert metrics["importance_weight_max"] == pytest.approx(max(weights), rel=1e-3)
