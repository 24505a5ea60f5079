import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import learner.backbone
from learner.backbone import Backbone
from learner.batching import collate
from learner.config import ComputeConfig
from learner.model_folder import check_model_folder
from learner.quantization import check_quantization
from learner.rounding import write_rounded_model
from learner.rows import gather_rows
from learner.sft import run_sft
from protocol.errors import ConfigError, ModelFolderError
from tests.learner.families.test_training import QUICK, demonstrations, train_one_update
from tests.learner.test_policy import perturb
from tests.learner.world import World, config

NF4 = ComputeConfig(device="cpu", precision="bfloat16", quantization="nf4", micro_batch_tokens=256)


@pytest.fixture
def without_bitsandbytes(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))


@pytest.mark.parametrize("changes", [{"precision": "float32"}, {"sharding": "fsdp"}])
def test_four_bits_go_with_bfloat16_and_whole_copies(changes):
    with pytest.raises(ValidationError, match="computed with in bfloat16 and not sharded"):
        ComputeConfig.model_validate(NF4.model_dump() | changes)


def test_a_missing_library_is_named_before_anything_is_loaded(without_bitsandbytes, world, monkeypatch):
    check_quantization(ComputeConfig())
    message = "is 'nf4', which needs bitsandbytes, not installed here.*pip install bitsandbytes"
    with pytest.raises(ConfigError, match=message):
        check_quantization(NF4)
    monkeypatch.setattr(learner.backbone, "AutoModelForImageTextToText", None)
    with pytest.raises(ConfigError, match=message):
        Backbone.load(world.folder, NF4)


def test_fine_tuning_holds_whole_weights_and_needs_no_library(without_bitsandbytes, world, tmp_path):
    run_sft(world.folder, demonstrations(world), QUICK, seed=0, out_dir=tmp_path / "sft", compute=NF4)
    assert check_model_folder(tmp_path / "sft")


def test_a_folder_that_is_quantized_already_is_refused(world, tmp_path):
    for file in world.folder.iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    settings = json.loads((world.folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "awq"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelFolderError, match="quantized by 'awq'.*learner.compute.quantization"):
        check_model_folder(tmp_path)


def test_only_the_text_model_is_packed_and_an_update_trains_the_adapter(packable_world):
    trained = train_one_update(packable_world, config({"compute": NF4}), tolerance=0.2)
    packed = {n for n, m in trained.policy.backbone.model.named_modules() if type(m).__name__ == "Linear4bit"}
    assert packed and all("language_model.layers" in name for name in packed)
    assert {p.dtype for p in trained.policy.adapter_parameters().values()} == {torch.float32}
    package = trained.package([])
    assert package.manifest.policy_version == 1
    assert all(np.isfinite(p.detach().numpy()).all() for p in trained.policy.adapter_parameters().values())


def test_gradients_are_those_of_the_rounded_weights(packable_world, make_policy, tmp_path):
    whole = NF4.model_copy(update={"quantization": "none"})
    rounded = World(write_rounded_model(packable_world.folder, tmp_path / "rounded", NF4), packable_world.image_tokens)
    gradients = []
    for compute in (NF4, whole):
        policy = make_policy(rounded, compute=compute)
        perturb(policy, scale=0.1)
        rows = gather_rows([rounded.batch(rounded.mixed_steps())])
        batch = collate(rows, np.arange(len(rows)), policy.backbone.pad_id)
        with torch.no_grad():
            policy.evaluate(batch)
        policy.evaluate(batch).tokens.log_probs.sum().backward()
        gradients.append([p.grad for p in policy.adapter_parameters().values()])
    for packed, expected in zip(*gradients, strict=True):
        assert torch.cosine_similarity(packed.flatten(), expected.flatten(), dim=0) > 0.99


def test_a_library_that_is_there_and_not_asked_for_says_nothing():
    """PEFT imports bitsandbytes, which warns on some CPUs of a kernel that it would fetch."""
    told = subprocess.run([sys.executable, "-c", "import learner.policy"], capture_output=True, text=True, timeout=300)
    assert (told.returncode, told.stdout) == (0, "") and "gemm_4bit" not in told.stderr
