import pytest
import torch
from transformers import AutoProcessor

from learner.images import FrameProcessor
from protocol.errors import TrajectoryError
from protocol.trajectory import digest_of
from tests.learner.tiny.number_line import frame


@pytest.fixture
def frames(family_world):
    pngs = [family_world.png(state) for state in [(0, 1), (0, 2), (0, 3)]]
    return {digest_of(png): png for png in pngs}


@pytest.fixture
def processor(family_world):
    return AutoProcessor.from_pretrained(family_world.folder)


def test_inputs_are_those_of_the_processor(family_world, processor, frames):
    digest = next(iter(frames))
    made = FrameProcessor(processor, 10**6).inputs(digest, frames)
    placeholder = family_world.tokenizer.decode(family_world.image_id)
    expected = processor(images=frame(0, 1), text=placeholder, return_tensors="pt")
    assert torch.equal(made.tensors["pixel_values"], expected["pixel_values"])
    assert made.image_tokens == int((expected["input_ids"] == family_world.image_id).sum())
    assert made.image_tokens == family_world.image_tokens


def test_what_is_kept_is_what_was_made(processor, frames):
    images = FrameProcessor(processor, 10**6)
    first = next(iter(frames))
    made, kept = images.inputs(first, frames), images.inputs(first, {})
    assert kept.image_tokens == made.image_tokens == images.image_tokens([first], {})
    assert kept.tensors.keys() == made.tensors.keys()
    assert all(kept.tensors[name].dtype is tensor.dtype for name, tensor in made.tensors.items())
    assert all(torch.equal(kept.tensors[name], tensor) for name, tensor in made.tensors.items())


def test_the_cache_is_bounded_in_bytes_and_drops_the_least_recently_used(processor, frames):
    measured = FrameProcessor(processor, 10**6)
    for digest in frames:
        measured.inputs(digest, frames)
    images = FrameProcessor(processor, measured.kept_bytes - 1)
    first, second, third = frames
    images.inputs(first, frames)
    images.inputs(second, frames)
    images.inputs(first, {})
    images.inputs(third, frames)
    assert len(images) == 2
    assert images.kept_bytes < measured.kept_bytes
    images.inputs(first, {})
    with pytest.raises(TrajectoryError, match="not there"):
        images.inputs(second, {})


def test_without_room_the_last_frame_is_kept(processor, frames):
    images = FrameProcessor(processor, 0)
    for digest in frames:
        images.inputs(digest, frames)
        images.inputs(digest, {})
    assert len(images) == 1


def test_token_counts_add_up(family_world, processor, frames):
    images = FrameProcessor(processor, 10**6)
    assert images.image_tokens([*frames, *frames], frames) == 6 * family_world.image_tokens
    assert images.image_tokens([], {}) == 0


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n cut short"])
def test_unreadable_bytes_are_refused_by_digest(processor, data):
    digest = digest_of(data)
    with pytest.raises(TrajectoryError, match=f"{digest.hex()[:16]} is not a readable image"):
        FrameProcessor(processor, 10**6).inputs(digest, {digest: data})


def test_bytes_under_a_foreign_digest_are_refused(processor, frames):
    first, second, _ = frames
    with pytest.raises(TrajectoryError, match="another digest"):
        FrameProcessor(processor, 10**6).inputs(first, {first: frames[second]})
