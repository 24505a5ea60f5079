"""Prompts with several frames of several shapes: the learner's log-probs are those of a plain forward pass."""

import numpy as np
import pytest
import torch

import learner.reading
from learner.backbone import Backbone
from learner.batching import collate_tokens
from learner.families.text_inputs import grid_positions, layer_features
from protocol.trajectory import digest_of
from tests.learner.families.pictures import SHAPES, picture, processed_prompt
from tests.learner.world import COMPUTE

TOLERANCE = 1e-4
SHOWN = [SHAPES[:1], SHAPES[1:3], SHAPES[3:], (), SHAPES[2:]]
"""Shapes of the frames of each row."""


@pytest.fixture
def rows(family_world):
    """Prompt, response and frames of each row; the prompt as the family's processor writes it."""
    rows = []
    for n, shapes in enumerate(SHOWN):
        pngs = [picture(*shape, seed=n) for shape in shapes]
        prompt = processed_prompt(family_world, f"row {n} of these", pngs)
        rows.append((prompt, family_world.response((1, n))[: 12 - n], pngs))
    return rows


@torch.no_grad()
def log_probs(backbone, rows):
    frames = {digest_of(png): png for _, _, pngs in rows for png in pngs}
    digests = [tuple(digest_of(png) for png in pngs) for _, _, pngs in rows]
    batch = collate_tokens([r[0] for r in rows], [r[1] for r in rows], digests, frames, backbone.pad_id)
    return backbone.token_scores(batch, backbone.hidden_states(batch)).log_probs.numpy()


def gaps(reference, found, rows):
    """Largest difference of each row from the plain forward pass."""
    expected = [reference.log_probs(*row) for row in rows]
    return [np.abs(found[i, : len(one)] - one).max() for i, one in enumerate(expected)]


@pytest.mark.parametrize("packing", [False, True])
def test_log_probs_equal_a_plain_forward_of_each_row(family_world, reference_of, rows, packing):
    backbone = Backbone.load(family_world.folder, COMPUTE.model_copy(update={"packing": packing}))
    assert max(gaps(reference_of(family_world), log_probs(backbone, rows), rows)) < TOLERANCE


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_positions_by_grid_matter(family, world_of, monkeypatch):
    world = world_of(family)
    rows = [(processed_prompt(world, "x", [picture(150, 300)]), world.response((1, 4)), [picture(150, 300)])]
    backbone = Backbone.load(world.folder, COMPUTE)
    right = log_probs(backbone, rows)
    monkeypatch.setattr(learner.reading, "grid_positions", lambda *_: None)
    # A reader of its own: positions may be remembered.
    assert np.abs(log_probs(Backbone.load(world.folder, COMPUTE), rows) - right).max() > 1e-3


@pytest.mark.parametrize("dropped", [0, 1])
def test_features_matter_in_each_layer_they_enter(dropped, world_of, monkeypatch):
    world = world_of("qwen3_vl")
    rows = [(processed_prompt(world, "x", [picture(150, 300)]), world.response((1, 4)), [picture(150, 300)])]
    backbone = Backbone.load(world.folder, COMPUTE)
    right = log_probs(backbone, rows)

    def partial(image_mask, features):
        arguments = layer_features(image_mask, features)
        arguments["deepstack_visual_embeds"][dropped] = torch.zeros_like(arguments["deepstack_visual_embeds"][dropped])
        return arguments

    monkeypatch.setattr(learner.reading, "layer_features", partial)
    gap = np.abs(log_probs(backbone, rows) - right).max()
    # What enters the last text layer's output changes the image tokens there, which nobody reads any more.
    assert gap > 1e-3 if dropped == 0 else gap == 0


def test_nothing_is_said_where_there_is_no_image(world):
    backbone = Backbone.load(world.folder, COMPUTE)
    ids = torch.tensor([[5, 6, 7]])
    assert grid_positions(backbone.model, ids, ids == backbone.image_token_id, []) is None
    assert layer_features(ids == backbone.image_token_id, []) == {}
