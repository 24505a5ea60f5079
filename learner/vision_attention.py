"""Attention of vision towers that see all images of a pass as one sequence (Qwen): images of one size at a time.

transformers' own way, without a flash-attention library, is one call per image, which for small images takes longer
than the arithmetic.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "croupier_flash_by_size"
"""Of this attention, in a vision tower's configuration. Towers hand the borders of images over, instead of calling
once per image, to an attention that has `flash` in its name."""


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [1, N, heads, D] within each image; query, key and value are [1, heads, N, D].

    Args:
        cu_seq_lens_q: int [images + 1]: where each image begins, and N.
    """
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    lengths = cu_seq_lens_q.diff().tolist()
    runs = [(length, len(list(images))) for length, images in groupby(lengths)]
    sizes = [length * images for length, images in runs]
    parts = zip(runs, *(states[0].split(sizes, dim=1) for states in (query, key, value)), strict=True)
    answers = [_equal_images(q, k, v, images, scaling) for (_, images), q, k, v in parts]
    return torch.cat(answers)[None], None


def _equal_images(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, images: int, scaling: float | None
) -> torch.Tensor:
    """[heads, images * L, D] to [images * L, heads, D]."""
    q, k, v = (states.unflatten(1, (images, -1)).transpose(0, 1) for states in (query, key, value))
    return nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling).transpose(1, 2).flatten(0, 1)


AttentionInterface.register(NAME, attention)


def attend_by_size(model: Any) -> None:
    """Give this attention to the vision tower of a Hugging Face model, if it is one that takes images in a row."""
    tower = getattr(model.model, "visual", None)
    if tower is not None and getattr(tower.config, "_attn_implementation", None) == "sdpa":
        tower.config._attn_implementation = NAME
