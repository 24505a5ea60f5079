import pytest
import torch

from tests.learner.updates import WHOLE, generator, loop_of, rows_of, with_behavior
from tests.learner.world import COMPUTE, LORA


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("packing", [True, False])
def test_checkpointed_gradients_are_the_plain_ones(family_world, make_policy, recorded, packing, dropout):
    rows = rows_of(family_world, with_behavior(make_policy(family_world), family_world, family_world.mixed_steps()))
    lora = LORA.model_copy(update={"dropout": dropout})
    for checkpointing in (False, True):
        compute = COMPUTE.model_copy(update={"gradient_checkpointing": checkpointing, "packing": packing})
        policy = make_policy(family_world, lora=lora, compute=compute)
        loop_of(policy, 10_000, **WHOLE).update(rows, policy_version=0, generator=generator())
    for plain, found in zip(*recorded, strict=True):
        assert torch.equal(found, plain)


def test_layers_run_twice_under_a_gradient_and_once_without(world, make_policy, monkeypatch):
    policy = make_policy(world, compute=COMPUTE.model_copy(update={"gradient_checkpointing": True}))
    mlp = policy.backbone.model.model.language_model.layers[0].mlp
    calls = []
    mlp.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    rows = rows_of(world, with_behavior(policy, world, world.mixed_steps()))
    calls.clear()
    loop_of(policy, 10_000, **WHOLE).update(rows, policy_version=0, generator=generator())
    assert calls.count(True) == 2
    assert calls.count(False) >= 1
