import pytest
import torch
from transformers import AutoProcessor

from learner.images import FrameProcessor
from protocol.errors import TrajectoryError
from protocol.trajectory import digest_of
from tests.learner.tiny.number_line import frame


@pytest.fixture
def frames(either_world):
    pngs = [either_world.png(state) for state in [(0, 1), (0, 2), (0, 3)]]
    return {digest_of(png): png for png in pngs}


@pytest.fixture
def processor(either_world):
    return AutoProcessor.from_pretrained(either_world.folder)


def test_inputs_are_those_of_the_processor(either_world, processor, frames):
    digest = next(iter(frames))
    made = FrameProcessor(processor, 4).inputs(digest, frames)
    placeholder = either_world.tokenizer.decode(either_world.image_id)
    expected = processor(images=frame(0, 1), text=placeholder, return_tensors="pt")
    assert torch.equal(made.tensors["pixel_values"], expected["pixel_values"])
    assert made.image_tokens == int((expected["input_ids"] == either_world.image_id).sum()) == 9


def test_the_cache_is_bounded_and_drops_the_least_recently_used(processor, frames):
    images = FrameProcessor(processor, capacity=2)
    first, second, third = frames
    kept = images.inputs(first, frames)
    images.inputs(second, frames)
    assert images.inputs(first, {}) is kept
    images.inputs(third, frames)
    assert len(images) == 2
    assert images.inputs(first, {}) is kept
    with pytest.raises(TrajectoryError, match="not there"):
        images.inputs(second, {})


def test_token_counts_add_up(processor, frames):
    images = FrameProcessor(processor, capacity=2)
    assert images.image_tokens([*frames, *frames], frames) == 54
    assert images.image_tokens([], {}) == 0


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n cut short"])
def test_unreadable_bytes_are_refused_by_digest(processor, data):
    digest = digest_of(data)
    with pytest.raises(TrajectoryError, match=f"{digest.hex()[:16]} is not a readable image"):
        FrameProcessor(processor, 2).inputs(digest, {digest: data})


def test_bytes_under_a_foreign_digest_are_refused(processor, frames):
    first, second, _ = frames
    with pytest.raises(TrajectoryError, match="another digest"):
        FrameProcessor(processor, 2).inputs(first, {first: frames[second]})
