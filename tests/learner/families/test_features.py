import pytest
import torch

from learner.backbone import Backbone
from learner.families.features import encode_frames
from protocol.trajectory import digest_of
from tests.learner.families.pictures import SHAPES, picture
from tests.learner.world import COMPUTE


@pytest.fixture
def backbone(family_world):
    return Backbone.load(family_world.folder, COMPUTE)


def inputs_of(backbone, png):
    return backbone.images.inputs(digest_of(png), {digest_of(png): png})


@torch.no_grad()
def test_frames_of_several_shapes_are_encoded_together_as_alone(backbone):
    inputs = [inputs_of(backbone, picture(*shape)) for shape in SHAPES]
    together = encode_frames(backbone.model, [one.tensors for one in inputs])
    for one, found in zip(inputs, together, strict=True):
        (alone,) = encode_frames(backbone.model, [one.tensors])
        assert found.embeddings.shape == (one.image_tokens, backbone.hidden_size)
        torch.testing.assert_close(found.embeddings, alone.embeddings, atol=1e-5, rtol=1e-5)
        if alone.layers is not None:
            assert found.layers is not None
            assert alone.layers.shape == (2, one.image_tokens, backbone.hidden_size)
            torch.testing.assert_close(found.layers, alone.layers, atol=1e-5, rtol=1e-5)


def test_only_what_a_family_has_is_there(world_of):
    offered = {}
    for family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next"):
        backbone = Backbone.load(world_of(family).folder, COMPUTE)
        (features,) = encode_frames(backbone.model, [inputs_of(backbone, picture(*SHAPES[0])).tensors])
        offered[family] = (features.grid is not None, features.layers is not None)
    grids, layers = (True, False), (True, True)
    assert offered == {
        "qwen2_vl": grids,
        "qwen2_5_vl": grids,
        "qwen3_vl": layers,
        "llava": (False, False),
        "llava_next": (False, False),
    }


def test_gradients_reach_the_newline_of_llava_next(world_of):
    backbone = Backbone.load(world_of("llava_next").folder, COMPUTE)
    backbone.model.requires_grad_(True)
    features = encode_frames(backbone.model, [inputs_of(backbone, picture(*s)).tensors for s in SHAPES[:2]])
    torch.cat([one.embeddings for one in features]).square().sum().backward()
    # A newline ends each row of tokens: six rows of the four tiles, and three of the two tiles side by side.
    newline = backbone.model.model.image_newline
    torch.testing.assert_close(newline.grad, 2 * (6 + 3) * newline.detach())
