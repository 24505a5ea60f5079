from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from learner.config import LoraConfig
from learner.folding import FoldedLinear

RANK_1 = LoraConfig(rank=1, alpha=8)
RANK_32 = LoraConfig(rank=32, alpha=8)


def adapted(policy) -> list[Any]:
    return [m for m in policy.peft_model.modules() if isinstance(m, LoraLinear)]


def moved(policy):
    for i, parameter in enumerate(policy.adapter_parameters().values()):
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    return policy


def test_layers_are_folded_where_that_is_less_work(world, make_policy):
    assert {type(m) for m in adapted(make_policy(world, lora=RANK_32))} == {FoldedLinear}
    # Rank 1 on 32 by 32 is 2.5 * 384 against 2048 operations per token.
    assert {type(m) for m in adapted(make_policy(world, lora=RANK_1))} == {LoraLinear}


@pytest.mark.parametrize("rows", [3, 2000])
def test_folded_layers_are_the_adapters_own_with_their_gradients(world, make_policy, rows):
    layer = adapted(moved(make_policy(world, lora=RANK_32)))[0]
    x = torch.randn(rows, layer.in_features, generator=torch.Generator().manual_seed(7))
    found = []
    for forward in (FoldedLinear.forward, LoraLinear.forward):
        leaf = x.clone().requires_grad_()
        out = forward(layer, leaf)
        out.square().sum().backward()
        found.append((out.detach(), leaf.grad, *(p.grad for p in layer.parameters() if p.requires_grad)))
        layer.zero_grad()
    assert all(gradient is not None for gradient in found[0])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_switched_off_and_dropped_out_adapters_are_not_folded(world, make_policy):
    policy = moved(make_policy(world, lora=RANK_32.model_copy(update={"dropout": 0.5})))
    layer = adapted(policy)[0]
    x = torch.ones(4, layer.in_features)
    on = layer(x)
    with policy.adapter_off():
        assert torch.equal(layer(x), layer.get_base_layer()(x))
    with policy.adapter_dropout(0):
        assert not torch.allclose(layer(x), on)
    assert torch.equal(layer(x), on)
