"""Kernels of vLLM's CPU engine, replaced or mended. Checked with vLLM 0.32.

Adapters: vLLM gathers a copy of the adapter's weights for every token of a batch and multiplies them one by one. Here
tokens of one adapter are multiplied together; most batches have only one. The sums are the same, in another order.

Temperatures of drafted tokens: vLLM writes them into a copy that it throws away, and samples at whatever its buffer
held before.

Drafts that are none: where vLLM has one token to compute and none drafted, it fills up with drafts -1, which nobody may
accept. Its CPU kernels take -1 for a position and read what lies before the row.
"""

from __future__ import annotations

from typing import Any

import torch

_SAMPLER = "vllm.v1.sample.rejection_sampler"
_NEVER = 2.0  # no token has so high a probability


def install() -> None:
    """Puts these kernels in the place of vLLM's, in the process that calls it. Does nothing but on CPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
    from vllm.triton_utils.dispatcher import register_kernels

    PunicaWrapperCPU.add_lora_linear = _add_lora_linear  # pyright: ignore[reportAttributeAccessIssue]
    register_kernels(
        {
            f"{_SAMPLER}.expand_kernel": expand,
            f"{_SAMPLER}.rejection_random_sample_kernel": accept,
            f"{_SAMPLER}.sample_recovered_tokens_kernel": redraw,
        }
    )


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
    output.copy_(_per_token(values, ends))


def accept(
    output: torch.Tensor,
    ends: torch.Tensor,
    drafts: torch.Tensor,
    draft_probs: torch.Tensor | None,
    target_probs: torch.Tensor,
    bonus: torch.Tensor,
    recovered: torch.Tensor,
    uniform: torch.Tensor,
    *others: Any,
) -> None:
    """vLLM's kernel that accepts drafts or takes what was redrawn, with drafts -1 never accepted.

    Args:
        output: [requests, drafts + 1]; what is written.
        ends: int [requests]; running totals of drafts.
        drafts: int [tokens].
        draft_probs: See vLLM.
        target_probs: [tokens, vocabulary].
        bonus: int [requests, 1].
        recovered: int [tokens].
        uniform: [tokens]; a draft is accepted if its probability is at least this.
        others: See vLLM.
    """
    from vllm.utils.cpu_triton_utils import _rejection_random_sample_kernel_impl

    chances = torch.where(drafts < 0, torch.full_like(uniform, _NEVER), uniform)
    _rejection_random_sample_kernel_impl(
        output, ends, drafts.clamp(min=0), draft_probs, target_probs, bonus, recovered, chances, *others
    )


def redraw(
    output: torch.Tensor,
    ends: torch.Tensor,
    drafts: torch.Tensor,
    draft_probs: torch.Tensor | None,
    target_probs: torch.Tensor,
    inverse_noise: torch.Tensor,
    *others: Any,
) -> None:
    """vLLM's kernel that draws what takes a rejected draft's place, from all tokens where the draft is -1.

    Args:
        output: int [tokens]; what is written.
        ends: int [requests]; running totals of drafts.
        drafts: int [tokens].
        draft_probs: See vLLM.
        target_probs: [tokens, vocabulary].
        inverse_noise: [requests, vocabulary]; one over exponential noise: the largest product with the probabilities
            is a draw from them.
        others: See vLLM.
    """
    from vllm.utils.cpu_triton_utils import _sample_recovered_tokens_kernel_impl

    _sample_recovered_tokens_kernel_impl(
        output, ends, drafts.clamp(min=0), draft_probs, target_probs, inverse_noise, *others
    )
    none = (drafts < 0).nonzero().flatten()
    if len(none):
        requests = _per_token(torch.arange(len(ends)), ends)[none]
        output[none] = (target_probs[none] * inverse_noise[requests]).argmax(-1).to(output.dtype)


def _per_token(values: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """[tokens]: every request's value once for each of its tokens."""
    return values.repeat_interleave(ends.diff(prepend=ends.new_zeros(1)))


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
    """Adds `scale * x a^T b^T` to `y`, in place; `scale * x a^T` is summed in float32.

    Args:
        y: [tokens, out].
        x: [tokens, in].
        a: [rank, in].
        b: [out, rank].
        scale: Factor on the product.
        rows: int64; the tokens that the adapter belongs to, None for all of them.
    """
    shrunk = (x if rows is None else x[rows]).float() @ a.t().float()
    product = shrunk.mul_(scale).to(y.dtype) @ b.t()
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
