"""Whole updates of two processes against those of one, with whole copies and with shards of the base weights."""

import numpy as np
import pytest
import torch

from learner.config import LoraConfig
from learner.learner import Learner
from learner.parallel.group import ALONE
from tests.learner.parallel.equality import (
    Trained,
    assert_equal_weights,
    assert_same_training,
    policy_of,
    trained,
    weights_of,
)
from tests.learner.test_adapter_export import canary
from tests.learner.test_checkpoint import train_once
from tests.learner.updates import shifted_rows
from tests.learner.world import COMPUTE, LORA, World, config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SHARDED = COMPUTE.model_copy(update={"sharding": "fsdp"})

SETTINGS = {
    "ppo": config(),
    "fewer rows than processes": config(minibatch_size=1),
    "grpo, whole minibatches": config({"algorithm": "grpo"}, minibatch_size=128),
    "base model as reference": config({"importance": {"mode": "truncated"}}, reference_kl_coefficient=0.1),
}


def update(group, folder, compute, settings, rows, lora=LORA) -> Trained:
    return trained(policy_of(World(folder), group, compute, lora), settings, rows)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("compute", [COMPUTE, SHARDED], ids=["copies", "shards"])
def test_an_update_of_two_processes_equals_that_of_one(pair, either_world, make_policy, compute, name):
    rows = shifted_rows(either_world, make_policy, [0])
    expected = update(ALONE, either_world.folder, COMPUTE, SETTINGS[name], rows)
    first, second = pair.run(update, either_world.folder, compute, SETTINGS[name], rows)
    assert_equal_weights(first.end, second.end)
    assert_same_training(first, expected)


@pytest.mark.parametrize("compute", [COMPUTE, SHARDED], ids=["copies", "shards"])
def test_adapters_in_the_vision_tower_are_trained_alike(pair, either_world, make_policy, compute):
    lora = LoraConfig(rank=4, alpha=8, targets="all")
    rows = shifted_rows(either_world, make_policy, [0])
    expected = update(ALONE, either_world.folder, COMPUTE, config(), rows, lora)
    first, second = pair.run(update, either_world.folder, compute, config(), rows, lora)
    assert_equal_weights(first.end, second.end)
    assert_same_training(first, expected)


@pytest.mark.parametrize("compute", [COMPUTE, SHARDED], ids=["copies", "shards"])
def test_two_runs_of_two_processes_are_equal_bit_for_bit(pair, world, make_policy, compute):
    rows, lora = shifted_rows(world, make_policy, [0]), LoraConfig(rank=4, alpha=8, dropout=0.2)
    once, again = (pair.run(update, world.folder, compute, config(), rows, lora)[0] for _ in range(2))
    assert_equal_weights(once.end, again.end)


def learner_with(group, folder, compute):
    world = World(folder)
    return world, Learner(folder, config().model_copy(update={"compute": compute}), world.banned, 0, group)


def start_and_save(group, folder, compute, out):
    """One update, then a checkpoint, as the cluster's learners write it."""
    world, learner = learner_with(group, folder, compute)
    train_once(learner, world)
    package = learner.package([canary(world)])
    if group.rank == 0:
        learner.save(out)
    return package.manifest.digest, package.canaries[0].log_probs


def load_and_go_on(group, folder, compute, checkpoint) -> tuple[bytes, Trained]:
    world, learner = learner_with(group, folder, compute)
    learner.load(checkpoint)
    start = weights_of(learner.policy)
    metrics = train_once(learner, world)
    return learner.package([]).manifest.digest, Trained(start, weights_of(learner.policy), [metrics])


@pytest.mark.parametrize("compute", [COMPUTE, SHARDED], ids=["copies", "shards"])
def test_a_checkpoint_of_two_is_resumed_by_one_and_by_two(pair, world, tmp_path, compute):
    first, second = pair.run(start_and_save, world.folder, compute, tmp_path / "saved")
    assert first[0] == second[0], "every process must know the digest that rows will carry"
    np.testing.assert_allclose(first[1], second[1], atol=1e-5)
    _, expected = load_and_go_on(ALONE, world.folder, COMPUTE, tmp_path / "saved")
    (digest, one), (other_digest, other) = pair.run(load_and_go_on, world.folder, compute, tmp_path / "saved")
    assert digest == other_digest
    assert_equal_weights(one.end, other.end)
    assert_same_training(one, expected)
    again = pair.run(load_and_go_on, world.folder, compute, tmp_path / "saved")[0]
    assert again[0] == digest


def test_a_checkpoint_of_one_is_resumed_by_two(pair, world, tmp_path):
    start_and_save(ALONE, world.folder, COMPUTE, tmp_path / "saved")
    _, expected = load_and_go_on(ALONE, world.folder, COMPUTE, tmp_path / "saved")
    _, found = pair.run(load_and_go_on, world.folder, SHARDED, tmp_path / "saved")[0]
    assert_same_training(found, expected)


def stray(group, folder, rows):
    policy = policy_of(World(folder), group)
    if group.rank == 1:
        with torch.no_grad():
            next(iter(policy.adapter_parameters().values())).view(-1)[0] += 1e-6
    try:
        trained(policy, config(), rows)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_processes_that_no_longer_hold_the_same_weights_are_stopped(pair, world, make_policy):
    rows = shifted_rows(world, make_policy, [0])
    for told in pair.run(stray, world.folder, rows):
        assert told.startswith("LearnerGroupBroken: The 2 learners no longer hold the same weights")
