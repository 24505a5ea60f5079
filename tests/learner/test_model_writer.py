"""Folders with an adapter merged in."""

import pytest
import torch

from learner.adapter_export import write_adapter
from learner.batching import collate
from learner.config import ComputeConfig
from learner.model_writer import merge_adapter
from learner.rows import gather_rows
from tests.learner.world import COMPUTE, Reference, World


def test_a_merged_model_says_what_the_adapter_said(either_world, make_policy, tmp_path):
    world = either_world
    policy = make_policy(world)
    with torch.no_grad():
        for parameter in policy.adapter_parameters().values():
            parameter.add_(0.1)
    folder = write_adapter(policy, world.folder, tmp_path / "adapter")
    merge_adapter(world.folder, folder, tmp_path / "merged", COMPUTE)
    state = (1, 4)
    rows = gather_rows([world.batch([world.step(state=state)])])
    with torch.no_grad():
        batch = collate(rows, torch.arange(1).numpy(), policy.backbone.pad_id)
        adapted = policy.log_probs(batch, ban=False)[0].numpy()
    arguments = (world.expanded(), world.response(state), [world.png(state)])
    merged = Reference(World(tmp_path / "merged")).log_probs(*arguments)
    assert merged == pytest.approx(adapted, abs=1e-4)
    assert abs(merged - Reference(world).log_probs(*arguments)).max() > 0.01


def test_the_result_has_the_type_of_the_configuration(world, make_policy, tmp_path):
    folder = write_adapter(make_policy(world), world.folder, tmp_path / "adapter")
    compute = ComputeConfig(device="cpu", precision="bfloat16")
    merge_adapter(world.folder, folder, tmp_path / "merged", compute)
    from safetensors.torch import load_file

    assert {t.dtype for t in load_file(tmp_path / "merged/model.safetensors").values()} == {torch.bfloat16}


def test_nothing_is_overwritten(world, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        merge_adapter(world.folder, tmp_path, tmp_path)
