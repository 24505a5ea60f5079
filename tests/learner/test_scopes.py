import re

import pytest
from torch import nn

from learner.backbone import Backbone
from learner.config import LoraConfig
from learner.scopes import in_scope, lora_targets, targets_regex
from protocol.errors import ConfigError
from tests.learner.world import COMPUTE

QWEN_LANGUAGE = "model.language_model.layers.0.self_attn.q_proj"
QWEN_VISION = "model.visual.blocks.0.mlp.gate_proj"


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
def test_targets_match_exactly_the_layers_in_scope(family_world, scope):
    model = Backbone.load(family_world.folder, COMPUTE).model
    pattern = targets_regex(lora_targets(model, scope))
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    matched = {name for name in names if re.fullmatch(pattern, name)}
    assert matched == {name for name in names if in_scope(name, scope) and name != "lm_head"}


def test_targets_name_each_kind_of_layer_once(world):
    targets = lora_targets(Backbone.load(world.folder, COMPUTE).model, "language")
    assert len(targets) == 7
    assert "model.language_model.layers.*.mlp.up_proj" in targets


def test_a_pattern_chooses_among_the_layers_in_scope(family_world):
    model = Backbone.load(family_world.folder, COMPUTE).model
    targets = lora_targets(model, "language", r".*\.(q_proj|v_proj)")
    assert targets == (
        "model.language_model.layers.*.self_attn.q_proj",
        "model.language_model.layers.*.self_attn.v_proj",
    )


def test_layers_left_out_are_not_adapted_with_their_likes(family_world):
    model = Backbone.load(family_world.folder, COMPUTE).model
    targets = lora_targets(model, "language", r".*layers\.1\..*(q_proj|up_proj)")
    assert targets == (
        "model.language_model.layers.1.mlp.up_proj",
        "model.language_model.layers.1.self_attn.q_proj",
    )
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert {name for name in names if re.fullmatch(targets_regex(targets), name)} == set(targets)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("q_proj", r"found inside 2 names, such as model.language_model.layers.0.self_attn.q_proj.*\.\*\(q_proj\)\.\*"),
        (r".*visual\..*qkv", r"but 1 beyond, such as model.visual.blocks.0.attn.qkv.*targets=all"),
        (r".*\.qproj", r"Nearest are model.language_model.layers.\*.self_attn.q_proj,"),
        ("", "matches none of the 14 linear layers in 'language'"),
    ],
)
def test_a_pattern_without_a_match_names_near_misses(world, pattern, message):
    with pytest.raises(ConfigError, match=message):
        lora_targets(Backbone.load(world.folder, COMPUTE).model, "language", pattern)


def test_a_pattern_must_be_a_regular_expression():
    with pytest.raises(ValueError, match="'q_proj[(]' is not a regular expression"):
        LoraConfig(pattern="q_proj(")
