"""Vision features of frames: what a family's vision part makes of image inputs, in one form for all families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True, eq=False)
class FrameFeatures:
    """What the text model needs to know of one frame."""

    embeddings: torch.Tensor
    """[image tokens, H], in the text model's width; they take the place of the frame's placeholders."""
    grid: torch.Tensor | None
    """int64 [1, 3]: frames, rows and columns of patches, for families whose positions depend on them."""
    layers: torch.Tensor | None = None
    """[L, image tokens, H]: added to the output of the first L text layers, in Qwen3-VL (DeepStack,
    arXiv 2406.04334)."""


def encode_frames(model: Any, inputs: Sequence[Mapping[str, torch.Tensor]]) -> list[FrameFeatures]:
    """Run a model's vision part once on several frames of any sizes.

    Args:
        model: Hugging Face model with `get_image_features`.
        inputs: of each frame, the image inputs that the family's processor made of this frame alone.
    """
    joined = {name: _join([one[name] for one in inputs]).to(model.device) for name in inputs[0]}
    made = model.get_image_features(**joined, return_dict=True)
    # Per vision layer one tensor per frame, in the families that have it.
    layers = getattr(made, "deepstack_features", None)
    return [
        FrameFeatures(
            embeddings=embeddings,
            grid=inputs[i].get("image_grid_thw"),
            layers=torch.stack([layer[i] for layer in layers]) if layers else None,
        )
        for i, embeddings in enumerate(made.pooler_output)
    ]


def _join(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate along dimension 0. Frames of LLaVA-NeXT may differ in their number of tiles, dimension 1: they are
    filled up with tiles of zeros, which the model drops again."""
    if tensors[0].dim() < 5:
        return torch.cat(list(tensors))
    most = max(tensor.shape[1] for tensor in tensors)
    padded = [torch.cat([t, t.new_zeros(t.shape[0], most - t.shape[1], *t.shape[2:])], dim=1) for t in tensors]
    return torch.cat(padded)
