import json
from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load
from transformers import AutoModelForImageTextToText

from learner.adapter_export import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    CanaryPrompt,
    adapter_config,
    adapter_weights,
    build_package,
    score_canary,
)
from learner.config import LoraConfig
from protocol.errors import RequestRefused, TrajectoryError
from tests.learner.test_policy import perturb


def canary(world, state=(1, 4)) -> CanaryPrompt:
    return CanaryPrompt(world.prompt().tolist(), (world.png(state),), world.response(state).tolist())


def write(folder, package):
    folder.mkdir()
    (folder / WEIGHTS_FILE).write_bytes(package.weights)
    (folder / CONFIG_FILE).write_bytes(package.config)
    return folder


@pytest.mark.parametrize("scope", ["language", "language+projector", "all"])
def test_peft_loads_the_folder_unchanged_with_equal_log_probs(either_world, make_policy, reference_of, tmp_path, scope):
    policy = make_policy(either_world, lora=LoraConfig(rank=4, alpha=8, targets=scope))
    perturb(policy)
    package = build_package(policy, either_world.folder, 3, [canary(either_world)])
    folder = write(tmp_path / "adapter", package)

    reference = reference_of(either_world)
    twin = type(reference)(either_world)
    twin.model = peft.PeftModel.from_pretrained(
        AutoModelForImageTextToText.from_pretrained(either_world.folder), folder
    ).eval()
    assert {n for n, _ in twin.model.named_parameters() if "lora_" in n} == set(policy.adapter_parameters())
    arguments = (either_world.expanded(), either_world.response((1, 4)), [either_world.png((1, 4))])
    found = package.canaries[0]
    np.testing.assert_allclose(found.log_probs, twin.log_probs(*arguments), atol=1e-5)
    np.testing.assert_allclose(found.base_log_probs, reference.log_probs(*arguments), atol=1e-5)
    assert found.base_gap > 1e-2


def test_files_hold_the_adapter_alone_under_peft_names(either_world, make_policy):
    policy = make_policy(either_world)
    tensors = load(bytes(adapter_weights(policy, torch.float32)[0]))
    assert all(k.startswith("base_model.model.model.language_model.layers.") for k in tensors)
    assert all(k.endswith((".lora_A.weight", ".lora_B.weight")) for k in tensors)
    assert len(tensors) == len(policy.adapter_parameters())
    settings = json.loads(adapter_config(policy, "some/model"))
    assert {k: settings[k] for k in ("r", "lora_alpha", "bias", "peft_type", "base_model_name_or_path")} == {
        "r": 4,
        "lora_alpha": 8,
        "bias": "none",
        "peft_type": "LORA",
        "base_model_name_or_path": "some/model",
    }


def test_the_manifest_describes_the_bytes(world, make_policy):
    policy = make_policy(world)
    package = build_package(policy, world.folder, 7, [])
    assert package.digest_matches()
    manifest = package.manifest
    assert (manifest.name, manifest.rank, manifest.alpha) == ("policy-v7", 4, 8.0)
    assert manifest.weights_bytes == len(bytes(package.weights))
    assert "model.language_model.layers.*.self_attn.q_proj" in manifest.target_modules


def test_equal_weights_give_equal_bytes_and_other_weights_another_digest(world, make_policy):
    policy, twin = make_policy(world), make_policy(world)
    first = build_package(policy, world.folder, 0, [])
    assert build_package(twin, world.folder, 0, []).manifest.digest == first.manifest.digest
    perturb(twin, scale=1e-3)
    assert build_package(twin, world.folder, 0, []).manifest.digest != first.manifest.digest


def test_bfloat16_models_get_bfloat16_adapters(world, make_policy):
    from tests.learner.world import COMPUTE

    policy = make_policy(world, compute=COMPUTE.model_copy(update={"precision": "bfloat16"}))
    assert {p.dtype for p in policy.adapter_parameters().values()} == {torch.float32}
    package = build_package(policy, world.folder, 0, [])
    assert {t.dtype for t in load(bytes(package.weights)).values()} == {torch.bfloat16}


def test_canaries_ban_nothing_and_start_with_no_gap(world, make_policy):
    policy = make_policy(world, banned_token_ids=[*world.banned, *range(100, 200)])
    scored = score_canary(policy, canary(world))
    assert scored.base_gap == 0.0
    np.testing.assert_allclose(scored.log_probs, score_canary(make_policy(world), canary(world)).log_probs, atol=1e-6)


def test_malformed_canaries(world, make_policy):
    policy = make_policy(world)
    good = canary(world)
    with pytest.raises(RequestRefused, match="1 image placeholders for 2 images"):
        score_canary(policy, replace(good, images=good.images * 2))
    with pytest.raises(RequestRefused, match="9 image placeholders for 1 images.*unexpanded"):
        score_canary(policy, replace(good, prompt_token_ids=world.expanded().tolist()))
    with pytest.raises(RequestRefused, match="empty response"):
        score_canary(policy, replace(good, response_token_ids=[]))
    with pytest.raises(TrajectoryError, match="not a readable image"):
        score_canary(policy, replace(good, images=(b"",)))
