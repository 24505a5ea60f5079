import re

import pytest
from torch import nn

from learner.backbone import Backbone
from learner.scopes import in_scope, lora_targets, part_of, targets_regex
from tests.learner.world import COMPUTE

QWEN_LANGUAGE = "model.language_model.layers.0.self_attn.q_proj"
QWEN_VISION = "model.visual.blocks.0.mlp.gate_proj"
LLAVA_VISION = "model.vision_tower.encoder.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (QWEN_LANGUAGE, "language"),
        ("lm_head.weight", "language"),
        ("model.visual.merger.mlp.0", "projector"),
        ("model.multi_modal_projector.linear_1", "projector"),
        (QWEN_VISION, "vision"),
        (LLAVA_VISION, "vision"),
    ],
)
def test_part_of(name, part):
    assert part_of(name) == part


def test_scopes_are_nested():
    names = {"language": QWEN_LANGUAGE, "projector": "model.visual.merger.mlp.0", "vision": QWEN_VISION}
    included = {
        scope: [part for part, name in names.items() if in_scope(name, scope)]
        for scope in ("language", "language+projector", "all")
    }
    assert included == {
        "language": ["language"],
        "language+projector": ["language", "projector"],
        "all": ["language", "projector", "vision"],
    }


@pytest.mark.parametrize("scope", ["language", "language+projector", "all"])
def test_targets_match_exactly_the_layers_in_scope(either_world, scope):
    model = Backbone.load(either_world.folder, COMPUTE).model
    pattern = targets_regex(lora_targets(model, scope))
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    matched = {name for name in names if re.fullmatch(pattern, name)}
    assert matched == {name for name in names if in_scope(name, scope) and name != "lm_head"}


def test_targets_name_each_kind_of_layer_once(world):
    targets = lora_targets(Backbone.load(world.folder, COMPUTE).model, "language")
    assert len(targets) == 7
    assert "model.language_model.layers.*.mlp.up_proj" in targets
