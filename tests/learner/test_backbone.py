import math

import numpy as np
import pytest
import torch

import learner.reading
from learner.backbone import Backbone
from learner.batching import collate_tokens
from protocol.errors import ModelFolderError, TrajectoryError
from protocol.trajectory import digest_of
from tests.learner.world import COMPUTE, STATES

TOLERANCE = 1e-5


@pytest.fixture
def backbone(family_world):
    return Backbone.load(family_world.folder, COMPUTE)


def rows_of(world):
    """Rows of different lengths: prompts with no, one and two images, responses from one token to a full one."""
    pngs = [world.png(state) for state in STATES]
    full = world.response((1, 4))
    return [
        (world.expanded("hit"), full, [pngs[0]]),
        (world.expanded("a longer prompt than that"), full[:1], [pngs[1]]),
        (world.expanded("two", images=2), full[3:9], [pngs[2], pngs[0]]),
        (world.expanded("none", images=0), full[:5], []),
    ]


def batch_of(backbone, rows, temperatures=None):
    frames = {digest_of(png): png for _, _, pngs in rows for png in pngs}
    digests = [tuple(digest_of(png) for png in pngs) for _, _, pngs in rows]
    prompts, responses = [r[0] for r in rows], [r[1] for r in rows]
    return collate_tokens(prompts, responses, digests, frames, backbone.pad_id, temperatures)


@torch.no_grad()
def log_probs(backbone, batch, banned=None):
    return backbone.token_scores(batch, backbone.hidden_states(batch), banned).log_probs.numpy()


@pytest.mark.parametrize("frozen", [False, True])
def test_log_probs_equal_a_plain_forward_of_each_row(family_world, backbone, reference_of, frozen):
    reference = reference_of(family_world)
    backbone.vision.frozen = frozen
    rows = rows_of(family_world)
    found = log_probs(backbone, batch_of(backbone, rows))
    for i, (prompt, response, pngs) in enumerate(rows):
        expected = reference.log_probs(prompt, response, pngs)
        np.testing.assert_allclose(found[i, : len(response)], expected, atol=TOLERANCE)
        assert (found[i, len(response) :] == 0).all()


def test_banned_ids_and_temperatures_are_those_of_the_sampler(family_world, backbone, reference_of):
    reference = reference_of(family_world)
    rows = rows_of(family_world)
    temperatures = np.array([0.2, 1.0, 1.7, 0.0], dtype=np.float32)
    banned = (*family_world.banned, 50, 60)
    found = log_probs(backbone, batch_of(backbone, rows, temperatures), backbone.banned_mask(banned))
    plain = log_probs(backbone, batch_of(backbone, rows))
    for i, (prompt, response, pngs) in enumerate(rows):
        expected = reference.log_probs(prompt, response, pngs, temperature=float(temperatures[i]), banned=banned)
        np.testing.assert_allclose(found[i, : len(response)], expected, rtol=1e-5, atol=TOLERANCE)
        assert np.abs(found[i] - plain[i]).max() > 1e-3


def test_positions_of_image_tokens_matter(world, monkeypatch):
    # That they are right is what the comparison with a plain forward shows.
    backbone = Backbone.load(world.folder, COMPUTE)
    batch = batch_of(backbone, rows_of(world)[:1])
    right = log_probs(backbone, batch)
    monkeypatch.setattr(learner.reading, "grid_positions", lambda *_: None)
    backbone = Backbone.load(world.folder, COMPUTE)
    assert np.abs(log_probs(backbone, batch) - right).max() > 1e-3


def test_logits_are_computed_at_response_positions_only(family_world, backbone, monkeypatch):
    seen = []
    head = backbone.model.lm_head
    monkeypatch.setattr(head, "forward", lambda states: seen.append(states.shape) or type(head).forward(head, states))
    rows = rows_of(family_world)
    log_probs(backbone, batch_of(backbone, rows))
    assert seen == [(sum(len(response) for _, response, _ in rows), backbone.hidden_size)]


def test_weights_are_frozen_and_text_only_batches_work(family_world, backbone):
    assert not any(p.requires_grad for p in backbone.model.parameters())
    rows = rows_of(family_world)[3:]
    assert np.isfinite(log_probs(backbone, batch_of(backbone, rows))).all()


def test_bfloat16_weights_give_nearby_float32_log_probs(family_world, backbone):
    half = Backbone.load(family_world.folder, COMPUTE.model_copy(update={"precision": "bfloat16"}))
    assert half.model.dtype is torch.bfloat16
    rows = rows_of(family_world)
    found = log_probs(half, batch_of(half, rows))
    assert found.dtype == np.float32
    gap = np.abs(found - log_probs(backbone, batch_of(backbone, rows)))
    assert 0 < gap.max() < 0.2


def test_training_keeps_float32_weights_under_bfloat16(family_world):
    half = COMPUTE.model_copy(update={"precision": "bfloat16"})
    assert Backbone.load(family_world.folder, half, trainable=True).model.dtype is torch.float32


def test_missing_folder(tmp_path):
    with pytest.raises(ModelFolderError, match="nothing-here"):
        Backbone.load(tmp_path / "nothing-here", COMPUTE)


def test_missing_frame_and_wrong_placeholder_count(family_world, backbone):
    prompt, response, pngs = rows_of(family_world)[0]
    frames = {digest_of(pngs[0]): pngs[0]}
    missing = collate_tokens([prompt], [response], [(bytes(32),)], frames, backbone.pad_id)
    with pytest.raises(TrajectoryError, match="not there"):
        backbone.hidden_states(missing)
    tokens = family_world.image_tokens
    short = collate_tokens([np.delete(prompt, 3)], [response], [tuple(frames)], frames, backbone.pad_id)
    with pytest.raises(TrajectoryError, match=f"{tokens - 1} image placeholders for {tokens} image tokens"):
        backbone.hidden_states(short)


@pytest.mark.parametrize(("banned", "message"), [([-1], "-1 is outside"), ([10**6], "outside the vocabulary")])
def test_banned_ids_outside_the_vocabulary(backbone, banned, message):
    with pytest.raises(ValueError, match=message):
        backbone.banned_mask(banned)


def test_banning_everything_is_refused(backbone):
    with pytest.raises(ValueError, match="all .* token ids are banned"):
        backbone.banned_mask(range(backbone.vocab_size))


def test_entropy_and_collision_are_those_of_the_distribution_sampled_from(family_world, backbone, reference_of):
    reference, rows = reference_of(family_world), rows_of(family_world)
    temperatures = np.array([0.3, 1.0, 1.7, 0.0], dtype=np.float32)
    banned = (*family_world.banned, 50, 60)
    batch = batch_of(backbone, rows, temperatures)
    with torch.no_grad():
        scores = backbone.token_scores(
            batch, backbone.hidden_states(batch), backbone.banned_mask(banned), entropies=True, collision_probs=True
        )
    assert scores.entropies is not None
    assert scores.collision_probs is not None
    for i, (prompt, response, pngs) in enumerate(rows):
        logits = reference.logits(prompt, response, pngs).double() / (float(temperatures[i]) or 1.0)
        logits[:, list(banned)] = -float("inf")
        probs = logits.softmax(-1)
        entropy = [-sum(p * math.log(p) for p in token.tolist() if p > 0) for token in probs]
        np.testing.assert_allclose(scores.entropies[i, : len(response)], entropy, rtol=1e-4)
        np.testing.assert_allclose(scores.collision_probs[i, : len(response)], (probs**2).sum(-1), rtol=1e-4)
        assert (scores.entropies[i, len(response) :] == 0).all()


def test_nothing_more_is_computed_than_was_asked_for(world):
    backbone = Backbone.load(world.folder, COMPUTE)
    batch = batch_of(backbone, rows_of(world))
    with torch.no_grad():
        scores = backbone.token_scores(batch, backbone.hidden_states(batch))
    assert scores.entropies is None
    assert scores.collision_probs is None


def test_the_gradient_of_the_entropy_is_finite_where_ids_are_banned(world):
    backbone = Backbone.load(world.folder, COMPUTE)
    batch = batch_of(backbone, rows_of(world))
    hidden = backbone.hidden_states(batch).detach().requires_grad_()
    mask = backbone.banned_mask(world.banned)
    found = backbone.token_scores(batch, hidden, mask, entropies=True, collision_probs=True)
    assert found.entropies is not None
    assert found.collision_probs is not None
    assert not found.collision_probs.requires_grad
    (gradient,) = torch.autograd.grad(found.entropies.sum(), hidden)
    assert gradient.isfinite().all()
    assert (gradient != 0).any()
