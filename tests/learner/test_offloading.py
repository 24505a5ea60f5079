"""A learner that gives its memory back between updates and one that does not are the same, bit for bit.

There is no GPU here: what moves are copies within host memory. Old memory is spoilt after every move, so that whoever
still reads it is found out.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import ProcessorMixin

from learner.config import LoraConfig
from learner.learner import Learner
from protocol.errors import ConfigError
from tests.learner.test_adapter_export import canary
from tests.learner.test_checkpoint import learner_of, train_once
from tests.learner.world import config


def held_by(learner: Learner) -> list[torch.Tensor]:
    """Every tensor that can be reached from the learner, whoever holds it."""
    found: dict[torch.Tensor, None] = {}
    seen, waiting = {id(learner)}, [learner]
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            found[one] = None
            continue
        if isinstance(one, type | ModuleType | ProcessorMixin) or hasattr(one, "__globals__"):
            continue  # the whole program could be reached from here; a processor works in host memory
        for other in gc.get_referents(one):
            if id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)
    return list(found)


def round_trip(learner: Learner) -> None:
    """Out and back; the memory of before is spoilt each time, but for what the learner keeps on purpose."""
    for move in (learner.offload, learner.reload):
        kept = {copy.data_ptr() for copy in learner._offloader._copies.values()}
        before = [tensor.detach() for tensor in learner._offloader._tensors()]  # same memory, other objects
        move()
        kept |= {copy.data_ptr() for copy in learner._offloader._copies.values()}
        for old in before:
            if old.data_ptr() not in kept and old.is_floating_point():
                old.fill_(torch.nan)


def test_everything_that_a_learner_holds_is_moved(either_world):
    learner = learner_of(either_world)
    train_once(learner, either_world)
    before = {tensor: tensor.data_ptr() for tensor in held_by(learner) if tensor.numel()}
    assert sum(tensor.nbytes for tensor in before) > 100_000, "or the test has looked at next to nothing"
    freed = learner.offload()
    left = [tensor for tensor in held_by(learner) if tensor.data_ptr() == before.get(tensor)]
    # Rotary frequencies, which transformers keeps a second time.
    assert sum(tensor.nbytes for tensor in left) < 500, [tuple(tensor.shape) for tensor in left]
    trained = list(learner.policy.trained_parameters().values())
    base = sum(p.nbytes for p in learner.policy.backbone.model.parameters() if not p.requires_grad)
    assert freed >= base + 3 * sum(p.nbytes for p in trained), "weights and Adam's two moments"


@pytest.mark.parametrize(("family", "changes"), [("qwen2_5_vl", {"dropout": 0.3}), ("llava", {"targets": "all"})])
def test_updates_with_round_trips_between_equal_those_without(world_of, family, changes):
    world = world_of(family)
    settings = config(epochs=1).model_copy(update={"lora": LoraConfig(rank=4, alpha=8, **changes)})
    resident, traveller = (learner_of(world, settings) for _ in range(2))
    for _ in range(2):
        version, digest = resident.policy_version, resident.package([canary(world)]).manifest.digest
        round_trip(traveller)
        assert traveller.package([canary(world)]).manifest.digest == digest
        named = {"policy_version": version, "adapter_digest": digest}
        steps = [replace(s, trajectory_id=f"{s.trajectory_id}-{version}", **named) for s in world.mixed_steps()]
        for one in (resident, traveller):
            assert one.receive([world.batch(steps)]) == []
        round_trip(traveller)
        expected, found = resident.update(), traveller.update()
        timed = {name for name in expected if name.endswith("_s")}
        assert {k: v for k, v in found.items() if k not in timed} == {
            k: v for k, v in expected.items() if k not in timed
        }
    mine, theirs = (one.package([canary(world)]) for one in (traveller, resident))
    assert mine.manifest == theirs.manifest
    assert (mine.canaries[0].log_probs == theirs.canaries[0].log_probs).all()
    assert (mine.canaries[0].base_log_probs == theirs.canaries[0].base_log_probs).all()


def test_a_checkpoint_written_while_away_is_the_same(world, tmp_path):
    learner = learner_of(world)
    train_once(learner, world)
    learner.save(tmp_path / "present")
    learner.offload()
    learner.save(tmp_path / "away")
    files = sorted(path.relative_to(tmp_path / "present") for path in (tmp_path / "present").rglob("*.*"))
    assert len(files) >= 4
    for file in files:
        assert (tmp_path / "present" / file).read_bytes() == (tmp_path / "away" / file).read_bytes(), file
    learner.reload()
    straight = learner_of(world)
    straight.load(tmp_path / "away")
    train_once(straight, world)
    train_once(learner, world)
    assert straight.package([]).manifest == learner.package([]).manifest


def test_rows_are_received_while_away_but_nothing_is_computed(world, tmp_path):
    learner = learner_of(world)
    learner.save(tmp_path / "saved")
    learner.offload()
    assert learner.receive([world.batch([world.step()])]), "refused: nothing was published"
    for forbidden in (learner.update, lambda: learner.package([]), lambda: learner.load(tmp_path / "saved")):
        with pytest.raises(RuntimeError, match="reload"):
            forbidden()


def test_going_twice_and_coming_back_twice_is_harmless(world):
    learner = learner_of(world)
    digest = learner.package([]).manifest.digest
    assert learner.offload() > 0
    assert learner.offload() == 0
    learner.reload()
    learner.reload()
    assert learner.package([]).manifest.digest == digest


def test_frozen_weights_are_copied_to_the_host_once(world):
    learner = learner_of(world)
    learner.offload()
    copies = {tensor: copy.data_ptr() for tensor, copy in learner._offloader._copies.items()}
    learner.reload()
    learner.offload()
    assert copies == {tensor: tensor.data_ptr() for tensor in copies}
    assert not any(p.requires_grad for p in copies)


def test_what_does_not_fit_back_is_not_lost(world, monkeypatch):
    learner = learner_of(world)
    digest = learner.package([]).manifest.digest
    learner.offload()
    whole, calls = torch.Tensor.to, iter(range(10_000))

    def full(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if next(calls) == 7:
            raise torch.OutOfMemoryError("the device is full")
        return whole(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(torch.OutOfMemoryError):
        learner.reload()
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="reload"):
        learner.update()
    learner.reload()
    assert learner.package([]).manifest.digest == digest


def test_weights_in_4_bits_are_refused_before_anything_moves(world, monkeypatch):
    learner = learner_of(world)
    places = [p.data_ptr() for p in learner.policy.peft_model.parameters()]
    monkeypatch.setattr(learner.policy.backbone.model, "is_quantized", True, raising=False)
    with pytest.raises(ConfigError, match=r"4 bits.*quantization=none"):
        learner.offload()
    assert places == [p.data_ptr() for p in learner.policy.peft_model.parameters()]
    learner.package([])
