import io

import numpy as np
import pytest
from PIL import Image

from actors.frames import FrameEncoder
from protocol.trajectory import digest_of


def picture(value: int, shape: tuple[int, ...] = (4, 6, 3)) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, shape, dtype=np.uint8)


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


@pytest.mark.parametrize(
    "image",
    [picture(0), picture(1, (300, 300, 3)), picture(2, (1, 1, 3)), picture(3)[:, ::-1], picture(4)[::2, 1:4]],
    ids=["small", "large", "one pixel", "mirrored view", "strided view"],
)
def test_frames_are_lossless_and_named_by_their_bytes(image):
    frame = FrameEncoder().encode(image)
    np.testing.assert_array_equal(pixels(frame.data), image)
    assert frame.digest == digest_of(frame.data)


def test_equal_pictures_are_compressed_once():
    encoder = FrameEncoder()
    first = encoder.encode(picture(0))
    assert encoder.encode(picture(0).copy()) is first
    assert encoder.encode(picture(0, (4, 6, 3))[:, :, ::-1]) is not first


def test_the_same_bytes_in_another_shape_are_another_picture():
    encoder = FrameEncoder()
    flat = picture(0).reshape(6, 4, 3)
    assert encoder.encode(picture(0)).digest != encoder.encode(flat).digest
    np.testing.assert_array_equal(pixels(encoder.encode(flat).data), flat)


def test_a_picture_that_changes_in_place_is_noticed():
    encoder, image = FrameEncoder(), picture(0)
    before = encoder.encode(image)
    image[0, 0, 0] += 1
    assert encoder.encode(image).digest != before.digest


def test_the_cache_keeps_the_pictures_seen_last():
    encoder = FrameEncoder(cache_frames=2)
    first, second = encoder.encode(picture(1)), encoder.encode(picture(2))
    assert encoder.encode(picture(1)) is first  # now the second is the older one
    encoder.encode(picture(3))
    assert encoder.encode(picture(1)) is first
    again = encoder.encode(picture(2))
    assert again is not second and again == second


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (picture(0).astype(np.float32), r"float32 \[4, 6, 3\]"),
        (picture(0)[:, :, 0], r"uint8 \[4, 6\]"),
        (picture(0, (4, 6, 4)), r"uint8 \[4, 6, 4\]"),
    ],
)
def test_other_arrays_are_refused(image, complaint):
    with pytest.raises(ValueError, match=f"uint8 .H, W, 3., got {complaint}"):
        FrameEncoder().encode(image)
