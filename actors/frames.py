"""Observations to content-addressed PNG frames, each distinct image compressed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import cv2
import numpy as np

from protocol.trajectory import Frame


class FrameEncoder:
    """Compress uint8 [H, W, 3] images to PNG, with a bounded cache of the images seen last.

    Args:
        cache_frames: How many encoded frames to keep. Games with few states hit it at nearly every step.
        compress_level: zlib level 0..9; 1 is the fastest that compresses.
    """

    def __init__(self, cache_frames: int = 512, compress_level: int = 1) -> None:
        self._cache: OrderedDict[tuple[tuple[int, ...], bytes], Frame] = OrderedDict()
        self._cache_frames = cache_frames
        self._compress_level = compress_level

    def encode(self, image: np.ndarray) -> Frame:
        """Return the frame of `image` (uint8 [H, W, 3]).

        Raises:
            ValueError: The array has another dtype or shape.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"An observation image must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}.")
        pixels = np.ascontiguousarray(image)
        key = (image.shape, hashlib.blake2b(pixels.data, digest_size=16).digest())
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        frame = self._cache[key] = Frame.of(_png(pixels, self._compress_level))
        if len(self._cache) > self._cache_frames:
            self._cache.popitem(last=False)
        return frame


def _png(pixels: np.ndarray, compress_level: int) -> bytes:
    """Without row filters: on drawn pictures trying them out takes most of the time and makes the file no smaller."""
    how = [cv2.IMWRITE_PNG_COMPRESSION, compress_level, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    done, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), how)
    assert done, f"an image of {list(pixels.shape)} could not be compressed"
    return data.tobytes()
