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

import pyarrow as pa
import torch
from PIL import Image

from protocol.errors import TrajectoryError
from protocol.trajectory import digest_of

_CODEC = "zstd"
"""Of those that pyarrow brings, the one that unpacks a processed frame fastest (0.05 ms; decoding it anew takes 1 ms),
and makes it smallest."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageInputs:
    """One frame as a model takes it."""

    tensors: dict[str, torch.Tensor]
    """Keyword arguments of the model's vision part: `pixel_values`, and `image_grid_thw` or `image_sizes` where the
    family has it."""
    image_tokens: int
    """Placeholder ids that the frame takes up in a prompt."""


@dataclass(frozen=True, slots=True, eq=False)
class _Compressed:
    """A tensor without its redundancy: most of a picture's patches look like their neighbours."""

    data: bytes
    dtype: torch.dtype
    shape: torch.Size

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Compressed:
        raw = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        return cls(pa.compress(raw, codec=_CODEC, asbytes=True), tensor.dtype, tensor.shape)

    def tensor(self) -> torch.Tensor:
        size = self.shape.numel() * self.dtype.itemsize
        raw = pa.decompress(self.data, decompressed_size=size, codec=_CODEC)
        return torch.frombuffer(bytearray(raw), dtype=self.dtype).view(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    tensors: dict[str, _Compressed]
    image_tokens: int

    @property
    def nbytes(self) -> int:
        return sum(len(kept.data) for kept in self.tensors.values())


class FrameProcessor:
    """Turns compressed frames into image inputs; keeps the most recently used ones.

    Args:
        processor: the model folder's processor, with its `image_processor`.
        capacity_bytes: memory for them, compressed. The one used last is kept in any case.
    """

    def __init__(self, processor: Any, capacity_bytes: int) -> None:
        self._processor = processor
        self._capacity_bytes = capacity_bytes
        self.kept_bytes = 0
        """Size of what is kept at present."""
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._tokens_of_size: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        """Frames kept at present."""
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
            return ImageInputs({name: kept.tensor() for name, kept in known.tensors.items()}, known.image_tokens)
        data = frames.get(digest)
        if data is None:
            raise TrajectoryError(f"Frame {digest.hex()[:16]} is named but not there.")
        made = self._process(digest, data)
        self._keep(digest, _Kept({n: _Compressed.of(t) for n, t in made.tensors.items()}, made.image_tokens))
        return made

    def image_tokens(self, digests: Sequence[bytes], frames: Mapping[bytes, bytes]) -> int:
        """Placeholder ids that a prompt with these frames must hold; raises like `inputs`."""
        known = ((digest, self._kept.get(digest)) for digest in digests)
        return sum((kept or self.inputs(digest, frames)).image_tokens for digest, kept in known)

    def _keep(self, digest: bytes, kept: _Kept) -> None:
        self._kept[digest] = kept
        self.kept_bytes += kept.nbytes
        while self.kept_bytes > self._capacity_bytes and len(self._kept) > 1:
            self.kept_bytes -= self._kept.popitem(last=False)[1].nbytes

    def _process(self, digest: bytes, data: bytes) -> ImageInputs:
        if digest_of(data) != digest:
            raise TrajectoryError(f"Frame {digest.hex()[:16]} has bytes of another digest.")
        try:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise TrajectoryError(f"Frame {digest.hex()[:16]} is not a readable image: {error}.") from error
        # One image per call, as the sampler does it: the result then depends on nothing but the frame.
        made = dict(self._processor.image_processor(images=[image], return_tensors="pt"))
        return ImageInputs(made, self._count_tokens(image))

    def _count_tokens(self, image: Image.Image) -> int:
        """Placeholders that the processor itself writes for an image; they depend on nothing but its size."""
        if image.size not in self._tokens_of_size:
            out = self._processor(text=[self._processor.image_token], images=[image], return_tensors="pt")
            self._tokens_of_size[image.size] = int((out["input_ids"] == self._processor.image_token_id).sum())
        return self._tokens_of_size[image.size]
