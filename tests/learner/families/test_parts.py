import re
from pathlib import Path

import pytest

from learner.backbone import Backbone
from learner.families.model_types import MODEL_TYPES, read_model_config
from learner.families.parts import part_of
from learner.scopes import lora_targets
from tests.learner.world import COMPUTE


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.language_model.layers.0.self_attn.q_proj", "language"),
        ("lm_head.weight", "language"),
        ("model.visual.merger.mlp.0", "projector"),
        ("model.visual.deepstack_merger_list.1.linear_fc2", "projector"),
        ("model.multi_modal_projector.linear_1", "projector"),
        ("model.image_newline", "projector"),
        ("model.visual.blocks.0.mlp.gate_proj", "vision"),
        ("model.vision_tower.encoder.layers.0.self_attn.q_proj", "vision"),
    ],
)
def test_part_of(name, part):
    assert part_of(name) == part


def documented_layers() -> dict[tuple[str, str], set[str]]:
    """Names by part and family, from the table of docs/models.md; of a list of names the first one is whole."""
    page = (Path(__file__).parents[3] / "docs/models.md").read_text("utf-8")
    found: dict[tuple[str, str], set[str]] = {}
    for part, families, cell in re.findall(r"^\| (language|projector|vision) \| (.*?) \| (.*) \|$", page, re.MULTILINE):
        names = set()
        for group in cell.split("; "):
            first, *others = re.findall(r"`(.*?)`", group)
            stem = first.rsplit(".", 1)[0]
            names |= {first, *(f"{stem}.{other}" for other in others)}
        told = families.replace("LLaVA-NeXT", MODEL_TYPES["llava_next"]).split(", ")
        found |= {(part, family): names for family in (MODEL_TYPES.values() if families == "all" else told)}
    return found


def test_the_documentation_names_every_layer_that_can_be_adapted(family_world):
    name = MODEL_TYPES[read_model_config(family_world.folder)["model_type"]]
    targets = lora_targets(Backbone.load(family_world.folder, COMPUTE).model, "all")
    for part in ("language", "projector", "vision"):
        there = {target.replace("*", "N") for target in targets if part_of(target) == part}
        assert documented_layers()[part, name] == there
