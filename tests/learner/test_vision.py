import pytest
import torch

from learner.backbone import Backbone
from protocol.trajectory import digest_of
from tests.learner.world import COMPUTE


@pytest.fixture
def backbone(family_world):
    return Backbone.load(family_world.folder, COMPUTE)


@pytest.fixture
def frames(family_world):
    pngs = [family_world.png((0, n)) for n in range(1, 6)]
    return {digest_of(png): png for png in pngs}


def count_encodings(backbone, monkeypatch):
    """List that grows by the number of frames of each call of the model's vision part."""
    calls = []
    original = backbone.model.get_image_features

    def counted(**inputs):
        features = original(**inputs)
        calls.append(len(features.pooler_output))
        return features

    monkeypatch.setattr(backbone.model, "get_image_features", counted)
    return calls


def test_repeats_are_encoded_once_and_given_back_in_order(backbone, frames, monkeypatch):
    calls = count_encodings(backbone, monkeypatch)
    a, b, *_ = frames
    features = backbone.vision.features([a, b, a, a], frames)
    assert calls == [2]
    assert features[0] is features[2] is features[3]
    alone = backbone.vision.features([b], frames)[0]
    torch.testing.assert_close(features[1].embeddings, alone.embeddings)
    assert not torch.allclose(features[0].embeddings, features[1].embeddings, atol=1e-2)


def test_frozen_features_are_remembered_without_gradient_until_cleared(backbone, frames, monkeypatch):
    calls = count_encodings(backbone, monkeypatch)
    backbone.model.requires_grad_(True)
    backbone.vision.frozen = True
    a, b, c, *_ = frames
    backbone.vision.features([a, b], frames)
    later = backbone.vision.features([b, c, a], frames)
    assert calls == [2, 1]
    assert not any(f.embeddings.requires_grad for f in later)
    backbone.vision.clear()
    backbone.vision.features([a], frames)
    assert calls == [2, 1, 1]


def test_trained_features_are_computed_each_time_with_gradient(backbone, frames, monkeypatch):
    calls = count_encodings(backbone, monkeypatch)
    backbone.model.requires_grad_(True)
    a = next(iter(frames))
    for _ in range(2):
        assert backbone.vision.features([a], frames)[0].embeddings.requires_grad
    assert calls == [1, 1]


def test_memory_is_bounded_and_misses_are_recomputed(family_world, frames, monkeypatch):
    backbone = Backbone.load(family_world.folder, COMPUTE.model_copy(update={"frame_cache_frames": 2}))
    backbone.vision.frozen = True
    calls = count_encodings(backbone, monkeypatch)
    digests = list(frames)
    first = backbone.vision.features(digests, frames)
    assert len(first) == 5
    backbone.vision.features(digests[-2:], frames)
    assert calls == [5]
    torch.testing.assert_close(backbone.vision.features(digests[:1], frames)[0].embeddings, first[0].embeddings)
    assert calls == [5, 1]
