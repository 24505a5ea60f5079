"""Gradient checkpointing: layers of the text model keep their input alone, and are computed anew in the backward pass.

Memory for activations falls from all layers' to about one layer's, for a second forward pass of each.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_layers(model: Any) -> None:
    """Let the text layers of a Hugging Face model do so wherever a gradient is recorded."""
    for layer in model.model.language_model.layers:
        _recompute(layer)


def _recompute(layer: nn.Module) -> None:
    whole = layer.forward

    @functools.wraps(whole)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return whole(*args, **kwargs)
        return checkpoint(whole, *args, use_reentrant=False, **kwargs)

    layer.forward = forward
