"""A run as a Tune trial: one update per `train()`, and a checkpoint that a new trial goes on from."""

from __future__ import annotations

import pytest
from ray import tune

from cluster.config import RayConfig
from cluster.runtime.ray_session import ray_session
from cluster.trainable import CroupierTrainable
from tests.cluster.running import LOCAL

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]

SMALL = {
    "deterministic": "false",
    "sft.steps": 5,
    "sft.demonstrations.steps": 100,
    "servers.kind": "transformers",
    "workers.envs_per_worker": 8,
    "rollout.steps_per_update": 64,
    "rollout.updates": 2,
}


def test_a_trial_trains_saves_and_goes_on(tmp_path) -> None:
    trial_class = tune.with_parameters(CroupierTrainable, base=LOCAL)
    with ray_session(RayConfig(address="local"), logical_cpus=4):
        first = trial_class(SMALL)
        result = first.train()
        assert result["training_iteration"] == 1
        assert result["run/env_steps"] == 64
        assert result["learner/ratio_first_minibatch_max_error"] < 1e-3
        assert not result["done"]
        saved = first.save(str(tmp_path / "saved"))
        first.stop()

        second = trial_class(SMALL)
        second.restore(saved)
        result = second.train()
        second.stop()
    assert result["run/env_steps"] == 128
    assert result["run/policy_version"] == 2
    assert result["done"]
