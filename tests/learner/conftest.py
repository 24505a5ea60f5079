from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

import learner.update
from learner.backbone import Backbone
from learner.policy import Policy
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import Family, TinyVLMConfig
from tests.learner.tiny.number_line import corpus
from tests.learner.world import COMPUTE, LORA, Reference, World


@pytest.fixture(scope="session")
def world_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], World]:
    """World of a family's smallest model, built once; its folder is read only."""

    @cache
    def build(family: Family) -> World:
        sizes = TinyVLMConfig(
            family=family,
            hidden_size=32,
            heads=1,
            intermediate_size=64,
            vision_hidden_size=32,
            vision_intermediate_size=64,
            # Qwen3-VL: both feed a text layer each.
            vision_layers=2 if family == "qwen3_vl" else 1,
            vocab_size=400,
        )
        folder = build_tiny_vlm(sizes, corpus(), 0, tmp_path_factory.mktemp("models") / family)
        return World(folder, sizes.image_tokens)

    return build


@pytest.fixture
def world(world_of) -> World:
    """The Qwen2.5-VL world, for tests in which the family does not matter."""
    return world_of("qwen2_5_vl")


@pytest.fixture(params=["qwen2_5_vl", "llava"])
def either_world(request: pytest.FixtureRequest, world_of) -> World:
    """The worlds of a family with positions by image grid and of one without, in turn."""
    return world_of(request.param)


@pytest.fixture(params=get_args(Family))
def family_world(request: pytest.FixtureRequest, world_of) -> World:
    """Every family's world in turn."""
    return world_of(request.param)


@pytest.fixture(params=get_args(Family))
def packable_world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Every family's world in turn, of widths that 4-bit blocks of 64 divide; needs bitsandbytes."""
    pytest.importorskip("bitsandbytes")
    sizes = TinyVLMConfig(family=request.param, vocab_size=400)
    return World(build_tiny_vlm(sizes, corpus(), 0, tmp_path / request.param), sizes.image_tokens)


@pytest.fixture(scope="session")
def reference_of() -> Callable[[World], Reference]:
    return cache(Reference)


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Policy]:
    """Fresh policies: `make_policy(world, seed=0, lora=..., value_gradient_to_backbone=...)`."""

    def make(world: World, *, seed: int = 0, lora=LORA, compute=COMPUTE, **settings) -> Policy:
        defaults = {
            "value_hidden_sizes": (16,),
            "value_gradient_to_backbone": False,
            "banned_token_ids": world.banned,
        }
        return Policy(Backbone.load(world.folder, compute), lora, seed=seed, **{**defaults, **settings})

    return make


@pytest.fixture
def recorded(monkeypatch):
    """Gradients of each optimizer step, taken just before it is applied."""
    taken = []
    original = learner.update.clipped_step

    def record(optimizer, groups, **kwargs):
        taken.append([p.grad.clone() for _, parameters in groups for p in parameters])
        return original(optimizer, groups, **kwargs)

    monkeypatch.setattr(learner.update, "clipped_step", record)
    return taken
