"""The critic: a small network on one hidden state of the policy's backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class ValueHead(nn.Module):
    """State value from the last-layer hidden state of the last prompt token (RL4VLM, arXiv 2405.10292).

    Float32 throughout. The last layer starts at zero, so that a fresh critic says 0 everywhere and the first
    advantages are plain returns.

    Args:
        hidden_size: width of the hidden state.
        hidden_sizes: widths of the layers in between; each is followed by a ReLU.
    """

    def __init__(self, hidden_size: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = hidden_size
        for size in hidden_sizes:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Values, float32 [B], of states [B, H]."""
        return self.layers(states.float()).squeeze(-1)
