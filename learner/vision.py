"""Vision features of frames: each distinct frame is encoded once, not once per row that shows it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from learner.families.features import FrameFeatures, encode_frames
from learner.images import FrameProcessor

_FRAMES_PER_PASS = 32


class VisionEncoder:
    """Runs the vision part of a model on frames.

    While that part is frozen, features are remembered (no gradient, bounded, until `clear`). Otherwise every
    call computes them afresh, with gradient.

    Args:
        model: Hugging Face model with `get_image_features`.
        images: gives the model's image inputs.
        capacity: features to remember.
    """

    def __init__(self, model: Any, images: FrameProcessor, capacity: int) -> None:
        self._model = model
        self._images = images
        self._capacity = capacity
        self._kept: OrderedDict[bytes, FrameFeatures] = OrderedDict()
        self.frozen = False
        """Whether no gradient and no adapter reaches the vision part. Set by whoever decides what is
        trained."""

    def clear(self) -> None:
        """Forget all features.

        Called when an update begins: which frames are encoded together then depends on the update's data
        only, so a resumed run repeats an unbroken one bit for bit.
        """
        self._kept.clear()

    def features(self, digests: Sequence[bytes], frames: Mapping[bytes, bytes]) -> list[FrameFeatures]:
        """Features of each frame named by `digests`, repeats included; raises like
        `FrameProcessor.inputs`."""
        distinct = list(dict.fromkeys(digests))
        if not self.frozen:
            known = self._encode(distinct, frames)
            return [known[digest] for digest in digests]
        known = {d: self._kept[d] for d in distinct if d in self._kept}
        missing = [d for d in distinct if d not in known]
        with torch.no_grad():
            for start in range(0, len(missing), _FRAMES_PER_PASS):
                known |= self._encode(missing[start : start + _FRAMES_PER_PASS], frames)
        for digest in distinct:
            self._kept[digest] = known[digest]
            self._kept.move_to_end(digest)
        while len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return [known[digest] for digest in digests]

    def _encode(self, digests: Sequence[bytes], frames: Mapping[bytes, bytes]) -> dict[bytes, FrameFeatures]:
        inputs = [self._images.inputs(digest, frames).tensors for digest in digests]
        return dict(zip(digests, encode_frames(self._model, inputs), strict=True))
