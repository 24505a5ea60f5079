"""Adapters of tiny models folded into the weights they adapt: one matrix product instead of three."""

from __future__ import annotations

from typing import Any, cast

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from learner.products import is_plain, linear

_NARROWNESS = 2.5
"""How many times as long an adapter's narrow products, with the sums after them, take per operation as wide ones."""


def fold_small_adapters(model: nn.Module) -> None:
    """Let adapted float32 layers on the CPU compute x (W + s B A)^T where that is quicker.

    A layer of I inputs and O outputs under an adapter of rank r spends 6 r (I + O) operations per token on the
    adapter's own products in a forward and a backward pass; folded in, 2 I O on the gradient of the whole weight.
    The same function, gradient included, up to rounding.
    """
    for module in model.modules():
        if type(module) is LoraLinear and _pays(module):
            # Another forward for the same module: names, checkpoints and switching adapters off see no difference.
            module.__class__ = FoldedLinear


def _pays(module: Any) -> bool:
    weight, (first, *others) = module.get_base_layer().weight, module.lora_A.values()
    inputs, outputs, rank = module.in_features, module.out_features, first.out_features
    plain = not others and is_plain(weight)
    return plain and 2 * inputs * outputs <= _NARROWNESS * 6 * rank * (inputs + outputs)


class FoldedLinear(LoraLinear):
    """A linear layer with one adapter, folded in wherever that is the same."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Float32 [..., I] to [..., O]."""
        (dropout,), base = self.lora_dropout.values(), cast(nn.Linear, self.get_base_layer())
        if self.disable_adapters or (dropout.training and isinstance(dropout, nn.Dropout)):
            return super().forward(x, *args, **kwargs)
        (name,) = self.lora_A
        down, up = cast(nn.Linear, self.lora_A[name]), cast(nn.Linear, self.lora_B[name])
        weight = torch.add(base.weight, up.weight @ down.weight, alpha=self.scaling[name])
        return linear(x, weight, base.bias)
