"""Decoded images by digest: a prompt's PNG is checked and decoded once, however many requests show it."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict

from PIL import Image, UnidentifiedImageError

from protocol.errors import RequestRefused


class ImageCache:
    """Least-recently-used cache of decoded RGB images, bounded in bytes of pixels."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._images: OrderedDict[bytes, Image.Image] = OrderedDict()

    def __len__(self) -> int:
        return len(self._images)

    def get(self, digest: bytes, png: bytes) -> Image.Image:
        """The decoded image (RGB). Callers must not change it.

        Raises:
            RequestRefused: the digest is not the SHA-256 of the bytes, or the bytes are no image.
        """
        image = self._images.get(digest)
        if image is not None:
            self._images.move_to_end(digest)
            return image
        # A wrong digest would show one request another request's image, here and in the engine's own cache.
        if hashlib.sha256(png).digest() != digest:
            raise RequestRefused(f"image digest {digest.hex()[:16]}... is not the SHA-256 of its bytes.")
        image = _decode(png)
        self._keep(digest, image)
        return image

    def _keep(self, digest: bytes, image: Image.Image) -> None:
        self._images[digest] = image
        self._held_bytes += _size_bytes(image)
        while self._held_bytes > self._max_bytes and self._images:
            _, oldest = self._images.popitem(last=False)
            self._held_bytes -= _size_bytes(oldest)


def _decode(png: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(png)) as image:
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise RequestRefused(f"{len(png)} image bytes cannot be decoded: {error}.", "send PNG bytes") from error


def _size_bytes(image: Image.Image) -> int:
    return 3 * image.width * image.height
