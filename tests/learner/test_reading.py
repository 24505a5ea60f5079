import numpy as np
import pytest
import torch

import learner.packed_attention
from learner.backbone import Backbone
from learner.batching import collate
from learner.config import LoraConfig
from learner.reading import PackedReader, PlainReader
from tests.learner.updates import WHOLE, generator, loop_of, rows_of, with_behavior
from tests.learner.world import COMPUTE, STATES

PLAIN = COMPUTE.model_copy(update={"packing": False})
UNSHARED = COMPUTE.model_copy(update={"shared_prompts": False})


def grouped_steps(world):
    """Three states, each with several responses of several lengths, one of them a single token."""
    steps = []
    for i in range(8):
        tokens = world.response(STATES[i % 3])
        cut = tokens[: len(tokens) - i] if i < 7 else tokens[:1]
        roles = np.where(np.arange(len(cut)) < len(cut) - 1, 1, 2).astype(np.int8)
        changes = {
            "response_token_ids": cut,
            "token_roles": roles,
            "behavior_log_probs": np.zeros(len(cut), np.float32),
        }
        steps.append(world.step(trajectory=str(i), state=STATES[i % 3], reward=float(i % 2), **changes))
    return steps


def reader_of(compute, world):
    return Backbone.load(world.folder, compute)._reader


def test_every_known_family_is_packed(family_world):
    assert isinstance(reader_of(COMPUTE, family_world), PackedReader)
    assert isinstance(reader_of(PLAIN, family_world), PlainReader)


def test_unknown_text_models_and_attention_windows_are_padded(world, monkeypatch):
    monkeypatch.setattr("learner.reading._PACKED_MODELS", set())
    assert isinstance(reader_of(COMPUTE, world), PlainReader)


@pytest.mark.parametrize("compute", [COMPUTE, UNSHARED], ids=["shared", "unshared"])
def test_packed_states_are_the_plain_ones(family_world, compute):
    rows = rows_of(family_world, grouped_steps(family_world))
    found = []
    for settings in (PLAIN, compute):
        backbone = Backbone.load(family_world.folder, settings)
        batch = collate(rows, np.arange(len(rows)), backbone.pad_id)
        with torch.no_grad():
            found.append(backbone.token_scores(batch, backbone.hidden_states(batch)).log_probs)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("targets", ["language", "all"])
@pytest.mark.parametrize("shared_gradient", [True, False])
def test_gradients_of_packed_rows_are_the_plain_ones(family_world, make_policy, recorded, targets, shared_gradient):
    """One update of all rows in one step: adapter and value head, with and without a gradient through the value."""
    rows = rows_of(family_world, with_behavior(make_policy(family_world), family_world, grouped_steps(family_world)))
    lora = LoraConfig(rank=4, alpha=8, targets=targets)
    for compute in (PLAIN, COMPUTE):
        policy = make_policy(family_world, lora=lora, compute=compute, value_gradient_to_backbone=shared_gradient)
        draw = generator(3)
        for parameter in policy.adapter_parameters().values():  # away from B = 0, where A has no gradient
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
        loop_of(policy, 10_000, **WHOLE).update(rows, policy_version=0, generator=generator())
    plain, packed = recorded
    assert len(plain) == len(packed)
    assert max(float(g.abs().max()) for g in plain) > 1e-3
    for theirs, ours in zip(plain, packed, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-5)


def test_equal_prompts_of_a_pass_are_computed_once(world, monkeypatch):
    rows = rows_of(world, grouped_steps(world))
    seen, original = [], learner.packed_attention._answers

    def count(span, *rest):
        seen.append(len(span.queries))
        return original(span, *rest)

    monkeypatch.setattr(learner.packed_attention, "_answers", count)
    for compute, expected in ((COMPUTE, [3, 8, 8]), (UNSHARED, [8, 8])):
        seen.clear()
        backbone = Backbone.load(world.folder, compute)
        backbone.hidden_states(collate(rows, np.arange(len(rows)), backbone.pad_id))
        # First layer: three prompts and eight responses, or eight whole rows; last layer: what eight rows read.
        assert seen == expected


def test_an_adapter_that_trains_with_dropout_is_packed_too(world, make_policy):
    lora = LoraConfig(rank=4, alpha=8, dropout=0.5)
    policy = make_policy(world, lora=lora)
    batch = collate(rows_of(world, grouped_steps(world)), np.arange(8), policy.backbone.pad_id)
    for parameter in policy.adapter_parameters().values():
        parameter.data += 0.1
    still = policy.log_probs(batch)
    with policy.adapter_dropout(0):
        dropped = policy.log_probs(batch)
    assert not torch.allclose(still, dropped, atol=1e-3)
    torch.testing.assert_close(policy.log_probs(batch), still)
