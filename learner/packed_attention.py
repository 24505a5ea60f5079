"""Attention over packed rows, as transformers' models call it, and a last layer that computes only what is read."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from learner.packing import Packing, Span

NAME = "croupier_packed"
"""Of this attention, in a text model's configuration. Without a packing it is transformers' `sdpa`."""


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [1, N, heads, D] of N packed tokens; query, key and value are [1, heads, N, D]."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    answers = [_answers(span, q, k, v, kwargs["scaling"]) for span in packing.spans]
    filling = len(q) - sum(map(len, answers))
    return torch.cat([*answers, q.new_zeros(filling, *q.shape[1:])])[None], None


def _answers(span: Span, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float) -> torch.Tensor:
    """Answers of a span [len(places), heads, D]; q, k and v are [N, heads, D]."""
    padded = nn.functional.scaled_dot_product_attention(
        _padded(q, span.queries),
        _padded(k, span.keys),
        _padded(v, span.keys),
        attn_mask=span.bias if span.bias is None else span.bias.to(q.dtype),
        is_causal=span.bias is None,
        scale=scaling,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    flat = padded.transpose(1, 2).flatten(0, 1)
    return flat if len(flat) == len(span.places) else flat.index_select(0, span.places)


def _padded(states: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """[N, heads, D] at `index` [b, S] as [b, heads, S, D]."""
    return states.index_select(0, index.flatten()).view(*index.shape, *states.shape[1:]).transpose(1, 2)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def read_at_last(layer: nn.Module) -> None:
    """Let the last layer of a text model answer packed tokens by the states of `packing.reads` only."""
    whole = layer.forward

    @functools.wraps(whole)
    def forward(hidden_states: torch.Tensor, packing: Packing | None = None, **kwargs: Any) -> torch.Tensor:
        if packing is None:
            return whole(hidden_states, **kwargs)
        return _read(layer, hidden_states, packing, kwargs["position_embeddings"])

    layer.forward = forward


def _read(
    layer: Any, hidden_states: torch.Tensor, packing: Packing, rotation: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """States [1, M, H] after the layer, from those of all tokens [1, N, H] before it."""
    inner = layer.self_attn
    normed = layer.input_layernorm(hidden_states)[0]
    shape = (-1, inner.head_dim)
    query = inner.q_proj(normed.index_select(0, packing.reads)).unflatten(-1, shape)
    key, value = inner.k_proj(normed).unflatten(-1, shape), inner.v_proj(normed).unflatten(-1, shape)
    if hasattr(inner, "q_norm"):
        query, key = inner.q_norm(query), inner.k_norm(key)
    cos, sin = rotation[0][0, :, None], rotation[1][0, :, None]
    key = _rotated(key, cos, sin)
    query = _rotated(query, cos.index_select(0, packing.reads), sin.index_select(0, packing.reads))
    answers = _answers(packing.read_span, query, key, value, inner.scaling)
    filling = len(packing.reads) - len(answers)
    attended = inner.o_proj(torch.cat([answers, answers.new_zeros(filling, *answers.shape[1:])]).flatten(1))
    states = hidden_states[0].index_select(0, packing.reads) + attended
    return (states + layer.mlp(layer.post_attention_layernorm(states)))[None]


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions (arXiv 2104.09864) of [N, heads, D], halves paired as in Llama and Qwen; cos, sin [N, 1, D]."""
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin
