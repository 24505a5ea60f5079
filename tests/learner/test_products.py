import pytest
import torch
from torch import nn

import learner.products
from learner.products import (
    PatchProduct,
    QuickLinear,
    linear,
    multiply_patches,
    onednn_is_faster,
    quicken_linear_layers,
)

needs_onednn = pytest.mark.skipif(not onednn_is_faster(), reason="torch's own products are as fast on this machine")


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(function, *tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    out = function(*leaves)
    (out * draw(*out.shape, seed=9)).sum().backward()
    return out.detach(), [leaf.grad for leaf in leaves]


@needs_onednn
@pytest.mark.parametrize("shape", [(512, 64, 96), (700, 96, 64), (3, 300, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_their_gradients_are_torchs(monkeypatch, shape, bias):
    monkeypatch.setattr(learner.products, "_SMALLEST_PRODUCT", 0)
    *rows, inputs, outputs = shape if len(shape) == 3 and shape[0] > 100 else (*shape[:2], 64, 32)
    arguments = [draw(*rows, inputs), draw(outputs, inputs, seed=1), *([draw(outputs, seed=2)] if bias else [])]
    out, ours = gradients(lambda x, w, b=None: linear(x, w, b), *arguments)
    expected, theirs = gradients(lambda x, w, b=None: nn.functional.linear(x, w, b), *arguments)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-3)


@needs_onednn
def test_products_are_the_same_from_call_to_call():
    x, w = draw(1000, 64), draw(96, 64, seed=1)
    assert torch.equal(linear(x, w, None), linear(x, w, None))


@needs_onednn
def test_only_large_float32_products_leave_torch(monkeypatch):
    calls = []
    original = learner.products._times_transposed
    monkeypatch.setattr(
        learner.products, "_times_transposed", lambda *a: calls.append(tuple(a[0].shape)) or original(*a)
    )
    linear(draw(10, 64), draw(64, 64), None)
    linear(draw(1000, 64).bfloat16(), draw(64, 64).bfloat16(), None)
    assert not calls
    linear(draw(1000, 64), draw(64, 64), None)
    assert calls == [(1024, 64)]  # filled up to a multiple of 256


def test_layers_keep_their_weights_names_and_ties():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    names, x = list(model.state_dict()), draw(4, 8)
    before = model(x)
    quicken_linear_layers(model)
    assert [type(m) for m in model] == [QuickLinear, nn.ReLU, QuickLinear]
    assert list(model.state_dict()) == names
    assert model[2].weight is model[0].weight
    assert torch.equal(model(x), before)


def test_bfloat16_layers_are_left_alone():
    model = nn.Sequential(nn.Linear(8, 8).bfloat16())
    quicken_linear_layers(model)
    assert type(model[0]) is nn.Linear


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_single_patches_is_a_product(bias):
    plain = nn.Conv3d(3, 8, kernel_size=(2, 4, 4), stride=(2, 4, 4), bias=bias)
    model, x = nn.Sequential(plain), draw(5, 3, 2, 4, 4)
    before, larger = plain(x), plain(draw(1, 3, 2, 8, 8))
    multiply_patches(model)
    assert type(plain) is PatchProduct
    torch.testing.assert_close(plain(x), before)
    assert torch.equal(plain(draw(1, 3, 2, 8, 8)), larger)
    overlapping = nn.Sequential(nn.Conv3d(3, 8, kernel_size=2))
    multiply_patches(overlapping)
    assert type(overlapping[0]) is nn.Conv3d
