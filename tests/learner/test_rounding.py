import asyncio

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from learner.backbone import Backbone
from learner.config import ComputeConfig
from learner.rounding import main, write_rounded_model
from protocol.errors import ConfigError
from tests.learner.test_backbone import batch_of, log_probs, rows_of
from tests.learner.world import World

BFLOAT16 = ComputeConfig(device="cpu", precision="bfloat16")
NF4 = BFLOAT16.model_copy(update={"quantization": "nf4"})
ROUNDING = 0.2
"""What two ways of computing in bfloat16 differ by at most (nats)."""


@pytest.fixture
def rounded(packable_world, tmp_path):
    return write_rounded_model(packable_world.folder, tmp_path / "rounded", NF4)


def scores(folder, compute, world):
    backbone = Backbone.load(folder, compute)
    return log_probs(backbone, batch_of(backbone, rows_of(world)))


def test_a_rounded_folder_is_ordinary_and_rounding_it_changes_nothing(packable_world, rounded, tmp_path):
    assert {p.name for p in rounded.iterdir()} == {p.name for p in packable_world.folder.iterdir()}
    again = write_rounded_model(rounded, tmp_path / "again", NF4)
    before, once, twice = (load_file(f / "model.safetensors") for f in (packable_world.folder, rounded, again))
    assert before.keys() == once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)
    changed = {key for key in once if not torch.equal(once[key], before[key].to(torch.bfloat16))}
    assert changed == {key for key in once if "_proj.weight" in key and "vis" not in key}


def test_servers_of_a_rounded_folder_compute_what_the_learner_does(packable_world, rounded):
    packed = scores(rounded, NF4, packable_world)
    assert np.array_equal(packed, scores(packable_world.folder, NF4, packable_world))
    assert np.abs(packed - scores(rounded, BFLOAT16, packable_world)).max() < ROUNDING
    assert np.abs(packed - scores(packable_world.folder, BFLOAT16, packable_world)).max() > 2 * ROUNDING


def test_nothing_is_rounded_without_a_grid(world, tmp_path):
    with pytest.raises(ConfigError, match="quantization is 'none'"):
        write_rounded_model(world.folder, tmp_path / "out", BFLOAT16)


def test_the_command_explains_itself_and_its_failures(world, tmp_path, capsys):
    assert main([]) == 2
    assert "python -m learner.rounding SOURCE OUT" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing"), str(tmp_path / "out")]) == 1
    assert "no model folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("packable_world", ["qwen2_5_vl"], indirect=True)
def test_vllm_serves_a_rounded_folder_to_a_learner_in_four_bits(packable_world, make_policy, rounded):
    pytest.importorskip("vllm")
    from tests.learner.families.test_vllm_agreement import compare, policy_of

    served = World(rounded, packable_world.image_tokens)
    policy = policy_of(make_policy, served, compute=NF4)
    gaps = asyncio.run(compare(served, {0: policy}, dtype="bfloat16"))
    print({version: f"mean {np.abs(gap).mean():.4f} max {np.abs(gap).max():.3f}" for version, gap in gaps.items()})
    assert max(np.abs(gap).mean() for gap in gaps.values()) < ROUNDING / 4
