"""Faster float32 matrix products on CPUs that torch's own library serves badly, for the linear layers of a model.

torch hands float32 products to MKL, which on AMD's processors leaves AVX-512 aside; the oneDNN library inside the same
torch does not, and is 1.5 to 2.4 times as fast at the shapes of tiny models (`croupier bench learner` measures it).
Results differ in the last bits, and are the same from run to run.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

_CPU_INFO = Path("/proc/cpuinfo")
_SMALLEST_PRODUCT = 2_000_000
"""Multiplications below which the library's start-up costs more than it saves."""

_MULTIPLE = 256
"""Rows that factors are filled up to: the library compiles a kernel for every new shape, which takes longer than
several products."""


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this machine is one of those: an AMD processor with AVX-512, and a torch that has the operator."""
    if not (hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.cpu.get_cpu_capability() == "AVX512"):
        return False
    return torch.backends.mkl.is_available() and _CPU_INFO.is_file() and "AuthenticAMD" in _CPU_INFO.read_text()


def quicken_linear_layers(model: nn.Module) -> None:
    """Let every float32 linear layer of `model` on the CPU compute by oneDNN; weights and names stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear and is_plain(module.weight):
            # Another forward for the same module: adapters, checkpoints and ties to other layers see no difference.
            module.__class__ = QuickLinear


def is_plain(weight: torch.Tensor) -> bool:
    """Whether a weight is float32, on the CPU, and neither sharded nor quantized."""
    return type(weight.data) is torch.Tensor and weight.dtype is torch.float32 and weight.device.type == "cpu"


def multiply_patches(model: nn.Module) -> None:
    """Let patch embeddings that convolve each patch on its own be one matrix product, which is what they are."""
    for module in model.modules():
        if type(module) is nn.Conv3d and module.kernel_size == module.stride and module.groups == 1:
            module.__class__ = PatchProduct


class PatchProduct(nn.Conv3d):
    """A convolution whose inputs are mostly as large as its kernel."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[N, C, *kernel] to [N, O, 1, 1, 1], or as a convolution does."""
        if input.shape[2:] != self.kernel_size or self.padding != (0, 0, 0):
            return super().forward(input)
        return linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None, None]


class QuickLinear(nn.Linear):
    """A linear layer by `linear`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Float32 [..., I] to [..., O]."""
        return linear(input, self.weight, self.bias)


def linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`states` [..., I] times the transpose of `weight` [O, I], plus `bias` [O]: as torch's, by oneDNN if it pays."""
    if not _is_large(states, weight) or not onednn_is_faster():
        return nn.functional.linear(states, weight, bias)
    flat = _Product.apply(states.reshape(-1, states.shape[-1]), weight, bias)
    return flat.view(*states.shape[:-1], len(weight))


def _is_large(states: torch.Tensor, weight: torch.Tensor) -> bool:
    on_cpu = states.dtype is weight.dtype is torch.float32 and states.device.type == "cpu"
    return on_cpu and states.numel() * len(weight) >= _SMALLEST_PRODUCT


class _Product(torch.autograd.Function):
    """x [N, I], w [O, I], b [O] or None -> x w^T + b [N, O]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
        filled = _filled(x)
        ctx.save_for_backward(filled, w)
        return _times_transposed(filled, w, b)[: len(x)]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (x, w) = gradients, ctx.saved_tensors
        need_x, need_w, need_b = ctx.needs_input_grad
        g = _filled(gradient.contiguous())
        return (
            _times_transposed(g, w.t())[: len(gradient)] if need_x else None,
            _weight_gradient(g, x) if need_w else None,
            gradient.sum(0) if need_b else None,
        )


def _filled(x: torch.Tensor) -> torch.Tensor:
    """[N, I] with rows of zeros below, up to a multiple."""
    missing = -len(x) % _MULTIPLE
    return x if not missing else nn.functional.pad(x, (0, 0, 0, missing))


def _weight_gradient(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """g^T x [O, I], from g [N, O] and x [N, I]."""
    if g.shape[1] > x.shape[1]:
        # The library is quicker where the second factor is the wide one.
        return _times_transposed(x.t(), g.t()).t()
    return _times_transposed(g.t(), x.t())


def _times_transposed(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], "")
