import hashlib

import pytest

from actors.images import ImageCache
from protocol.errors import RequestRefused
from tests.actors.toy_folder import png_bytes

COLORS = ("red", "green", "blue")
IMAGES = {hashlib.sha256(png_bytes(color)).digest(): png_bytes(color) for color in COLORS}
ONE_IMAGE_BYTES = 8 * 8 * 3


def test_an_image_is_decoded_once():
    cache = ImageCache(max_bytes=1 << 20)
    digest, png = next(iter(IMAGES.items()))
    assert cache.get(digest, png) is cache.get(digest, png)
    assert cache.get(digest, png).getpixel((0, 0)) == (255, 0, 0)


def test_the_least_recently_used_image_leaves_first():
    cache = ImageCache(max_bytes=2 * ONE_IMAGE_BYTES)
    (red, red_png), (green, green_png), (blue, blue_png) = IMAGES.items()
    first = cache.get(red, red_png)
    second = cache.get(green, green_png)
    cache.get(red, red_png)
    cache.get(blue, blue_png)
    assert len(cache) == 2
    assert cache.get(red, red_png) is first
    assert cache.get(green, green_png) is not second


def test_a_cache_without_room_still_decodes():
    cache = ImageCache(max_bytes=0)
    digest, png = next(iter(IMAGES.items()))
    assert cache.get(digest, png).size == (8, 8)
    assert len(cache) == 0


def test_a_digest_of_other_bytes_is_refused():
    red, green, _ = IMAGES
    with pytest.raises(RequestRefused, match="not the SHA-256"):
        ImageCache(1 << 20).get(red, IMAGES[green])


def test_bytes_that_are_no_image_are_refused():
    junk = b"not an image"
    with pytest.raises(RequestRefused, match="12 image bytes cannot be decoded"):
        ImageCache(1 << 20).get(hashlib.sha256(junk).digest(), junk)
