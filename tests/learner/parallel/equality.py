"""What must be equal between one learner and several, for groups of threads and of processes alike."""

from dataclasses import dataclass

import numpy as np

from learner.backbone import Backbone
from learner.config import ComputeConfig, LearnerConfig, LoraConfig
from learner.parallel.group import Group
from learner.policy import Policy
from learner.rows import Rows
from learner.update import UpdateLoop
from tests.learner.updates import generator
from tests.learner.world import COMPUTE, LORA, World

Weights = dict[str, np.ndarray]

EPSILON = 1e-3
"""Of Adam's denominator; gradients of single weights here are about 1e-3 to 1e-1."""


@dataclass(frozen=True)
class Trained:
    """What some updates made of a policy; it can be sent between processes."""

    start: Weights
    end: Weights
    metrics: list[dict[str, float]]


def policy_of(world: World, group: Group, compute: ComputeConfig = COMPUTE, lora: LoraConfig = LORA) -> Policy:
    """The same fresh policy for every group."""
    return Policy(
        Backbone.load(world.folder, compute, group=group),
        lora,
        value_hidden_sizes=(16,),
        value_gradient_to_backbone=False,
        banned_token_ids=world.banned,
        seed=0,
    )


def weights_of(policy: Policy) -> Weights:
    return {name: p.detach().numpy().copy() for name, p in policy.trained_parameters().items()}


def trained(policy: Policy, settings: LearnerConfig, rows: Rows, updates: int = 2) -> Trained:
    """Some updates on the same rows.

    Adam moves a weight whose gradient is all rounding as far as any other. A large epsilon makes the steps follow the
    gradients' sizes, so that what differs is a mistake, on every kind of CPU.
    """
    start, loop = weights_of(policy), UpdateLoop(policy, settings)
    for group in loop.optimizer.param_groups:
        group["eps"] = EPSILON
    metrics = [loop.update(rows, policy_version=v, generator=generator(v)) for v in range(updates)]
    return Trained(start, weights_of(policy), metrics)


def assert_same_training(found: Trained, expected: Trained, *, tolerance: float = 2e-3) -> None:
    """Every tensor moved the same way, within `tolerance` of the way; every metric within 1e-3 of its size or of 1."""
    assert found.end.keys() == expected.end.keys()
    for name, end in expected.end.items():
        assert np.array_equal(found.start[name], expected.start[name]), name
        way = np.linalg.norm(end - expected.start[name])
        assert way > 0 or "value_head" in name, f"{name} did not move"
        assert np.linalg.norm(found.end[name] - end) <= tolerance * way, name
    for own, other in zip(found.metrics, expected.metrics, strict=True):
        assert own.keys() == other.keys()
        for name, value in other.items():
            if not name.endswith("_s"):  # a duration
                assert abs(own[name] - value) <= 1e-3 * max(1.0, abs(value)), (name, own[name], value)


def assert_equal_weights(found: Weights, expected: Weights) -> None:
    """Byte for byte."""
    assert found.keys() == expected.keys()
    assert all(found[name].tobytes() == weights.tobytes() for name, weights in expected.items())
