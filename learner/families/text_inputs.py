"""What a text model wants to know of the images in its sequence, beyond their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from learner.families.features import FrameFeatures


def grid_positions(
    model: Any, input_ids: torch.Tensor, image_mask: torch.Tensor, features: Sequence[FrameFeatures]
) -> torch.Tensor | None:
    """Positions int64 [3, B, S] where the family counts them by image grid (Qwen); None for plain ones.

    Left to itself, Qwen2.5-VL takes plain positions for image tokens without a word.

    Args:
        model: Hugging Face model.
        input_ids: int64 [B, S].
        image_mask: bool [B, S], True = placeholder of an image token.
        features: of every image, in the order of their placeholders.
    """
    if not features or not hasattr(model.model, "get_rope_index"):
        return None
    positions, _ = model.model.get_rope_index(
        input_ids,
        mm_token_type_ids=image_mask.int(),
        image_grid_thw=torch.cat([f.grid for f in features if f.grid is not None]),
    )
    return positions


def layer_features(image_mask: torch.Tensor, features: Sequence[FrameFeatures]) -> dict[str, Any]:
    """Arguments of a text model that adds vision features to the output of its first layers (Qwen3-VL).

    Empty for every other family, and where there is no image. Arguments as of `grid_positions`.
    """
    layers = [f.layers for f in features if f.layers is not None]
    if not layers:
        return {}
    return {"visual_pos_masks": image_mask, "deepstack_visual_embeds": list(torch.cat(layers, dim=1))}
