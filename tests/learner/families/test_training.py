"""Each family through the learner's own stages: supervised fine-tuning, one PPO update, a checkpoint, plain PEFT."""

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from learner.config import LoraConfig, SFTConfig
from learner.learner import Learner
from learner.sft import run_sft
from protocol.trajectory import DEMONSTRATION_VERSION
from tests.learner.test_adapter_export import canary, write
from tests.learner.updates import with_behavior
from tests.learner.world import COMPUTE, STATES, Reference, config

QUICK = SFTConfig(steps=8, batch_size=4, learning_rate=1e-2, warmup_steps=2)
TOLERANCE = 1e-4


def demonstrations(world):
    steps = [
        world.step(
            trajectory=f"demo-{i}",
            state=state,
            policy_version=DEMONSTRATION_VERSION,
            behavior_log_probs=np.zeros(len(world.response(state)), np.float32),
        )
        for i, state in enumerate(STATES)
    ]
    return [world.batch(steps)]


def test_fine_tuning_lowers_the_loss_and_keeps_the_layout_of_the_folder(family_world, tmp_path):
    metrics = run_sft(
        family_world.folder, demonstrations(family_world), QUICK, seed=0, out_dir=tmp_path / "sft", compute=COMPUTE
    )
    assert metrics["final_loss"] < 0.8 * metrics["first_loss"]
    before, after = (load_file(folder / "model.safetensors") for folder in (family_world.folder, tmp_path / "sft"))
    assert after.keys() == before.keys()
    parts = ("language_model", "newline", "projector", "merger", "vision_tower", "visual.blocks")
    for part in parts:
        keys = [key for key in before if part in key]
        assert not keys or any(not torch.equal(before[key], after[key]) for key in keys), part


def train_one_update(world, settings, tolerance) -> Learner:
    """A learner that has made one update on rows of its own, whose importance ratios began at 1."""
    learner = Learner(world.folder, settings, world.banned, seed=0)
    digest = learner.package([canary(world)]).manifest.digest
    steps = with_behavior(learner.policy, world, world.mixed_steps())
    learner.receive([world.batch([replace(s, adapter_digest=digest) for s in steps])])
    metrics = learner.update()
    assert learner.ledger.trained == 3
    assert metrics["ratio_first_minibatch_max_error"] < tolerance
    return learner


@pytest.mark.parametrize("targets", ["language", "all"])
def test_an_update_a_checkpoint_and_plain_peft(family_world, reference_of, tmp_path, targets):
    lora = LoraConfig(rank=4, alpha=8, targets=targets)
    learner = train_one_update(family_world, config({"lora": lora}), TOLERANCE)
    package = learner.package([canary(family_world)])
    assert package.canaries[0].base_gap > 1e-4

    folder = write(tmp_path / "adapter", package)
    base = AutoModelForImageTextToText.from_pretrained(family_world.folder)
    twin = Reference(family_world)
    twin.model = peft.PeftModel.from_pretrained(base, folder).eval()
    row = (family_world.expanded(), family_world.response((1, 4)), [family_world.png((1, 4))])
    np.testing.assert_allclose(package.canaries[0].log_probs, twin.log_probs(*row), atol=TOLERANCE)
    np.testing.assert_allclose(
        package.canaries[0].base_log_probs, reference_of(family_world).log_probs(*row), atol=TOLERANCE
    )

    learner.save(tmp_path / "checkpoint")
    resumed = Learner(family_world.folder, config({"lora": lora}), family_world.banned, seed=1)
    resumed.load(tmp_path / "checkpoint")
    assert resumed.package([canary(family_world)]).manifest.digest == package.manifest.digest
