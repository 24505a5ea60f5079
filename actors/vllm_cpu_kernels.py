"""Two kernels of vLLM's CPU engine, replaced.

Adapters: vLLM 0.32 gathers a copy of the adapter's weights for every token of a batch and multiplies them one by one,
a third of a tiny model's engine time. Here tokens of one adapter are multiplied together; most batches have only one.
The sums are the same, in another order.

Temperatures of drafted tokens: vLLM 0.32 writes them into a copy that it throws away, and samples at whatever its
buffer held before.
"""

from __future__ import annotations

from typing import Any

import torch

_EXPAND_KERNEL = "vllm.v1.sample.rejection_sampler.expand_kernel"


def install() -> None:
    """Puts these kernels in the place of vLLM's, in the process that calls it. Does nothing but on CPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
    from vllm.triton_utils.dispatcher import register_kernels

    PunicaWrapperCPU.add_lora_linear = _add_lora_linear  # pyright: ignore[reportAttributeAccessIssue]
    register_kernels({_EXPAND_KERNEL: expand})


def expand(
    output: torch.Tensor,
    values: torch.Tensor,
    ends: torch.Tensor,
    replace_from: float,
    replace_to: float,
    MAX_NUM_TOKENS: int | None = None,  # noqa: N803 (vLLM's name)
) -> None:
    """Gives every token its request's value, in place.

    Args:
        output: [tokens]; what is written.
        values: [requests].
        ends: int [requests]; running totals of tokens.
        replace_from: A value that is not passed on,
        replace_to: but this one instead.
        MAX_NUM_TOKENS: Not used.
    """
    values = torch.where(values == replace_from, torch.full_like(values, replace_to), values)
    output.copy_(values.repeat_interleave(ends.diff(prepend=ends.new_zeros(1))))


def _add_lora_linear(
    self: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a_stacked: tuple[torch.Tensor, ...],
    lora_b_stacked: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
    **_: Any,
) -> None:
    y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
    for adapter, rows in _tokens_by_adapter(self, x.shape[0]):
        start = 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            update(y[:, start : start + width], x, a[adapter, 0], b[adapter, 0], scale, rows)
            start += width


def update(
    y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float, rows: torch.Tensor | None
) -> None:
    """Adds `scale * x a^T b^T` to `y`, in place.

    Args:
        y: [tokens, out].
        x: [tokens, in].
        a: [rank, in].
        b: [out, rank].
        scale: Factor on the product.
        rows: int64; the tokens that the adapter belongs to, None for all of them.
    """
    product = ((x if rows is None else x[rows]) @ a.t()).mul_(scale) @ b.t()
    if rows is None:
        y += product
    else:
        y.index_add_(0, rows, product)


def _tokens_by_adapter(wrapper: Any, tokens: int) -> list[tuple[int, torch.Tensor | None]]:
    """Adapters of the batch with their tokens; tokens without an adapter are left out."""
    slots = wrapper.token_lora_indices
    if len(slots) != tokens:
        raise RuntimeError(f"vLLM names the adapters of {len(slots)} tokens, the layer has {tokens}")
    first = int(slots[0])
    if bool((slots == first).all()):
        return [(first, None)] if first >= 0 else []
    return [(int(slot), (slots == slot).nonzero().flatten()) for slot in slots.unique() if slot >= 0]
