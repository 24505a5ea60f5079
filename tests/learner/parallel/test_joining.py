from dataclasses import replace

import numpy as np
import pytest
import torch

from learner.config import ImportanceConfig
from learner.parallel.group import ALONE
from learner.parallel.joining import join_step, without_rows
from protocol.errors import UpdateDiverged
from tests.learner.parallel.equality import assert_equal_weights, assert_same_training, policy_of, trained
from tests.learner.parallel.threads import members, together
from tests.learner.updates import rows_of, shifted_rows
from tests.learner.world import config


def numbers_of(rows):
    index = torch.tensor(rows, dtype=torch.int64)
    return {"loss": index.float() + 0.5, "kl": -index.float(), "index": index}


def test_every_process_gets_the_numbers_of_all_rows():
    parts = [[numbers_of([4, 2]), numbers_of([7])], [without_rows(numbers_of([2]))], [numbers_of([9])]]
    index = np.array([9, 2, 4, 7])

    def work(group):
        parameter = torch.nn.Parameter(torch.zeros(1))
        parameter.grad = torch.tensor([1.0])
        return join_step(group, [parameter], index, parts[group.rank]), parameter.grad.tolist()

    for numbers, gradient in together(members(3), work):
        assert numbers["index"].tolist() == [9, 2, 4, 7]
        assert numbers["loss"].tolist() == [9.5, 2.5, 4.5, 7.5]
        assert numbers["kl"].tolist() == [-9, -2, -4, -7]
        assert gradient == [3.0]


SETTINGS = {
    "ppo": config(),
    "fewer rows than processes": config(minibatch_size=1),
    "grpo": config({"algorithm": "grpo"}, minibatch_size=3),
    "everything": config(
        {"importance": ImportanceConfig(mode="truncated"), "monitors": {"rows": 4}},
        thought_weight_rule="auto",
        reference_kl_coefficient=0.1,
        entropy_coefficient=0.01,
        kl_early_stop=0.5,
    ),
}


@pytest.mark.parametrize(("name", "size"), [*((name, 2) for name in SETTINGS), ("ppo", 3)])
def test_an_update_of_several_equals_that_of_one(world, make_policy, name, size):
    settings = SETTINGS[name]
    rows = shifted_rows(world, make_policy, [0])
    expected = trained(policy_of(world, ALONE), settings, rows)
    groups = members(size)
    policies = [policy_of(world, group) for group in groups]
    first, *others = together(groups, lambda group: trained(policies[group.rank], settings, rows))
    assert_same_training(first, expected)
    for other in others:
        assert_equal_weights(other.end, first.end)


def test_a_loss_that_is_not_finite_ends_the_update_of_every_process(world, make_policy):
    steps = world.mixed_steps()
    steps[0] = replace(steps[0], reward=float("inf"))
    rows = rows_of(world, steps)
    groups = members(2)
    policies = [policy_of(world, group) for group in groups]

    def work(group):
        with pytest.raises(UpdateDiverged):
            trained(policies[group.rank], config(), rows)

    together(groups, work)
