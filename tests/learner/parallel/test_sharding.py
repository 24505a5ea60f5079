"""Shards of a model on two processes: what each holds, what they compute together, and what is written."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from learner.config import SFTConfig
from learner.parallel.group import ALONE
from learner.parallel.sharding import (
    clip_gradients,
    gathered_weights,
    held_bytes,
    is_sharded,
    optimizer_groups,
    shard_language_model,
)
from learner.sft import run_sft
from tests.learner.parallel.equality import policy_of
from tests.learner.test_sft import demonstrations, tensors
from tests.learner.world import COMPUTE, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SHARDED = COMPUTE.model_copy(update={"sharding": "fsdp"})
CPU = torch.device("cpu")


def bytes_of_parts(group, folder, compute):
    """Of the base weights in this process: decoder layers, and the rest."""
    model = policy_of(World(folder), group, compute).backbone.model
    base = {n: p for n, p in model.named_parameters() if "lora_" not in n}
    inside = {n for n in base if "language_model.layers." in n}
    return held_bytes(base[n] for n in inside), held_bytes(p for n, p in base.items() if n not in inside)


def test_each_process_holds_half_of_the_layers(pair, either_world):
    layers, rest = bytes_of_parts(ALONE, either_world.folder, COMPUTE)
    assert pair.run(bytes_of_parts, either_world.folder, COMPUTE) == [(layers, rest)] * 2
    # Embedding and output layer are one tensor in these models, which stays whole, as the vision tower does.
    assert pair.run(bytes_of_parts, either_world.folder, SHARDED) == [(layers // 2, rest)] * 2


def model_of(folder, *, tied):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    if not tied:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach() + 0.01)
    return model


def states_and_gradients(model):
    """Logits through embedding, layers and output layer, as the backbone calls them, and gradients of a loss."""
    embedded = model.get_input_embeddings()(torch.arange(8)[None])
    hidden = model.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden)
    torch.log_softmax(logits, -1)[..., 3].sum().backward()
    return logits.detach().numpy()


def shard_and_step(group, folder, tied):
    model = model_of(folder, tied=tied)
    shard_language_model(model, CPU, group.size)
    logits = states_and_gradients(model)
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = float(clip_gradients(parameters, 0.5))
    torch.optim.SGD(optimizer_groups(parameters), lr=0.1).step()
    whole = gathered_weights(model)
    assert whole is not None
    outside = [n for n, p in model.named_parameters() if not is_sharded(p)]
    shared = whole["lm_head.weight"] is whole["model.language_model.embed_tokens.weight"]
    return logits, norm, {n: w.numpy() for n, w in whole.items()}, outside, shared


@pytest.mark.parametrize("tied", [True, False])
def test_a_sharded_model_computes_clips_and_steps_as_a_whole_one(pair, world, tied):
    model = model_of(world.folder, tied=tied)
    expected = states_and_gradients(model)
    # Both processes pass the same tokens; of whole parameters each has its own gradient, of sharded ones the sum.
    for name, parameter in model.named_parameters():
        inside = ".layers." in name or (not tied and ("embed_tokens" in name or "lm_head" in name))
        if parameter.grad is not None and inside:
            parameter.grad *= 2
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = float(clip_gradients(parameters, 0.5))
    torch.optim.SGD(optimizer_groups(parameters), lr=0.1).step()
    for logits, found_norm, weights, outside, shared in pair.run(shard_and_step, world.folder, tied):
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        assert found_norm == pytest.approx(norm, rel=1e-5)
        assert weights.keys() == model.state_dict().keys()
        for name, weight in model.state_dict().items():
            np.testing.assert_allclose(weights[name], weight.numpy(), atol=1e-6, err_msg=name)
        assert any("embed_tokens" in name for name in outside) == tied == shared
        assert not any(".layers." in name and "language_model" in name for name in outside)


def test_a_whole_model_is_not_gathered(world):
    assert gathered_weights(model_of(world.folder, tied=True)) is None


ROUNDING_ONLY = "self_attn.k_proj.bias"
"""Softmax does not see a shift of all keys: the gradient is rounding, and Adam makes steps of full size of it."""

TUNING = SFTConfig(steps=6, batch_size=5, learning_rate=1e-2, warmup_steps=2)


def tune(group, folder, compute, out_dir):
    return run_sft(folder, demonstrations(World(folder)), TUNING, seed=0, out_dir=out_dir, compute=compute, group=group)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_supervised_fine_tuning_by_two_equals_that_by_one(pair, either_world, tmp_path, sharding, precision):
    compute = COMPUTE.model_copy(update={"precision": precision})
    expected = tune(ALONE, either_world.folder, compute, tmp_path / "one")
    shared = compute.model_copy(update={"sharding": sharding})
    first, second = pair.run(tune, either_world.folder, shared, tmp_path / "two")
    tolerance = 1e-4 if precision == "float32" else 2e-2
    for name in ("steps", "first_loss", "final_loss", "tokens"):
        assert first[name] == second[name] == pytest.approx(expected[name], rel=tolerance)
    start, one, two = (tensors(f) for f in (either_world.folder, tmp_path / "one", tmp_path / "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        if name.endswith(ROUNDING_ONLY):
            continue
        way = (weight.double() - start[name].double()).norm()
        assert two[name].dtype == weight.dtype
        assert (two[name].double() - weight.double()).norm() <= 20 * tolerance * way + 1e-6, name
    for file in (tmp_path / "one").iterdir():
        if file.suffix != ".safetensors":
            assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes(), file.name
