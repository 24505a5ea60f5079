"""Frames to the image inputs of a model, by the folder's own processor, remembered by digest.

Used by admission (does a prompt hold as many placeholders as its frames have image tokens?) and by the vision
encoder. Knows no trajectories.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from protocol.errors import TrajectoryError
from protocol.trajectory import digest_of


@dataclass(frozen=True, slots=True, eq=False)
class ImageInputs:
    """One frame as a model takes it."""

    tensors: dict[str, torch.Tensor]
    """Keyword arguments of the model's vision part: `pixel_values`, and `image_grid_thw` where the family has
    it. Inputs of several frames are joined along dimension 0."""
    image_tokens: int
    """Placeholder ids that the frame takes up in a prompt."""


class FrameProcessor:
    """Turns compressed frames into image inputs; keeps the most recently used ones.

    Args:
        processor: the model folder's processor, with its `image_processor`.
        capacity: frames to keep.
    """

    def __init__(self, processor: Any, capacity: int) -> None:
        self._processor = processor
        self._capacity = capacity
        self._kept: OrderedDict[bytes, ImageInputs] = OrderedDict()

    def __len__(self) -> int:
        """Frames kept at present; never above the capacity."""
        return len(self._kept)

    def inputs(self, digest: bytes, frames: Mapping[bytes, bytes]) -> ImageInputs:
        """Inputs of one frame; `frames` maps digests to compressed bytes and is read on a miss only.

        Raises:
            TrajectoryError: The frame is not in `frames`, its bytes have another digest, or they are no
                image.
        """
        known = self._kept.get(digest)
        if known is not None:
            self._kept.move_to_end(digest)
            return known
        data = frames.get(digest)
        if data is None:
            raise TrajectoryError(f"Frame {digest.hex()[:16]} is named but not there.")
        made = self._process(digest, data)
        self._kept[digest] = made
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return made

    def image_tokens(self, digests: Sequence[bytes], frames: Mapping[bytes, bytes]) -> int:
        """Placeholder ids that a prompt with these frames must hold; raises like `inputs`."""
        return sum(self.inputs(digest, frames).image_tokens for digest in digests)

    def _process(self, digest: bytes, data: bytes) -> ImageInputs:
        if digest_of(data) != digest:
            raise TrajectoryError(f"Frame {digest.hex()[:16]} has bytes of another digest.")
        try:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise TrajectoryError(f"Frame {digest.hex()[:16]} is not a readable image: {error}.") from error
        # One image per call, as the sampler does it: the result then depends on nothing but the frame.
        made = dict(self._processor.image_processor(images=[image], return_tensors="pt"))
        return ImageInputs(made, self._count_tokens(made))

    def _count_tokens(self, tensors: dict[str, torch.Tensor]) -> int:
        grid = tensors.get("image_grid_thw")
        if grid is not None:  # Qwen2.5-VL merges squares of patches into one token
            return int(grid.prod()) // self._processor.image_processor.merge_size**2
        height, width = tensors["pixel_values"].shape[-2:]
        patch = self._processor.patch_size
        patches = (height // patch) * (width // patch) + self._processor.num_additional_image_tokens
        # LLaVA's "default" strategy leaves the class token out.
        return patches - (self._processor.vision_feature_select_strategy == "default")
