import json
import shutil
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText

from learner.checkpoint import model_fingerprint
from learner.config import LearnerConfig, LoraConfig
from learner.learner import Learner
from protocol.errors import CheckpointError
from tests.learner.test_adapter_export import canary
from tests.learner.updates import with_behavior
from tests.learner.world import config


def learner_of(world, settings: LearnerConfig | None = None, seed=0):
    return Learner(world.folder, settings or config(), world.banned, seed)


def train_once(learner, world):
    """One update on rows of the current version; their ids and rewards depend on the version."""
    version = learner.policy_version
    digest = learner.package([canary(world)]).manifest.digest
    steps = [
        replace(
            step,
            trajectory_id=f"{step.trajectory_id}-{version}",
            policy_version=version,
            adapter_digest=digest,
            reward=step.reward + 0.1 * version,
        )
        for step in with_behavior(learner.policy, world, world.mixed_steps())
    ]
    assert learner.receive([world.batch(steps)]) == []
    return learner.update()


def weights(learner):
    return learner.policy.adapter_parameters() | learner.policy.value_parameters()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(either_world, tmp_path, dropout):
    settings = config(warmup_updates=3)
    settings = settings.model_copy(update={"lora": LoraConfig(rank=4, alpha=8, dropout=dropout)})
    straight = learner_of(either_world, settings)
    train_once(straight, either_world)
    straight_metrics = train_once(straight, either_world)

    broken = learner_of(either_world, settings)
    train_once(broken, either_world)
    broken.save(tmp_path / "1")
    resumed = learner_of(either_world, settings, seed=77)  # the run's seed comes from the checkpoint
    resumed.load(tmp_path / "1")
    resumed_metrics = train_once(resumed, either_world)

    assert all(torch.equal(p, weights(resumed)[n]) for n, p in weights(straight).items())
    timeless = {k: v for k, v in straight_metrics.items() if not k.endswith("_s")}
    assert timeless == {k: resumed_metrics[k] for k in timeless}
    assert resumed.policy_version == 2
    assert resumed.package([]).manifest.digest == straight.package([]).manifest.digest


@pytest.mark.parametrize(
    "settings",
    [
        config({"importance": {"mode": "masked"}}, thought_weight_rule="auto", thought_weight_probe_rows=2),
        config({"algorithm": "grpo", "grpo": {"normalization": "task"}}, learning_rate_schedule="cosine"),
        config({"algorithm": "gigpo", "monitors": {"rows": 4, "every_updates": 1}}, entropy_coefficient=0.1),
        config({"algorithm": "reinforce"}, epochs=1, learning_rate_schedule="linear", reference_kl_coefficient=0.1),
    ],
    ids=["auto-lambda", "grpo-task", "gigpo-monitors", "reinforce-schedule"],
)
def test_every_memory_of_an_algorithm_is_resumed_exactly(world, tmp_path, settings):
    straight = learner_of(world, settings)
    train_once(straight, world)
    straight.save(tmp_path / "1")
    metrics = train_once(straight, world)
    resumed = learner_of(world, settings, seed=77)
    resumed.load(tmp_path / "1")
    again = train_once(resumed, world)
    assert all(torch.equal(p, weights(resumed)[n]) for n, p in weights(straight).items())
    timeless = {k: v for k, v in metrics.items() if not k.endswith("_s")}
    assert timeless == {k: again[k] for k in timeless}
    assert resumed._loop.state() == straight._loop.state()


def test_another_algorithm_is_refused_with_the_cure(world, saved):
    learner = learner_of(world, config({"algorithm": "vl_dac"}))
    with pytest.raises(CheckpointError, match="learner.algorithm=ppo, not vl_dac.*resume with learner.algorithm=ppo"):
        learner.load(saved)
    assert learner.policy_version == 0


def test_the_adapter_folder_opens_in_peft(world, tmp_path):
    learner = learner_of(world)
    train_once(learner, world)
    folder = learner.save(tmp_path / "checkpoints" / "1")
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(world.folder), folder / "adapter")
    found = {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert all(torch.equal(p, found[n]) for n, p in learner.policy.adapter_parameters().items())


def test_only_safetensors_and_json_are_written_and_nothing_temporary_stays(world, tmp_path):
    learner = learner_of(world)
    train_once(learner, world)
    folder = learner.save(tmp_path / "1")
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "value_head.safetensors",
        "optimizer.safetensors",
        "counters.json",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["1"]


def test_an_existing_checkpoint_is_replaced_whole(world, tmp_path):
    learner = learner_of(world)
    learner.save(tmp_path / "1")
    (tmp_path / "1" / "leftover").touch()
    train_once(learner, world)
    learner.save(tmp_path / "1")
    assert not (tmp_path / "1" / "leftover").exists()
    fresh = learner_of(world)
    fresh.load(tmp_path / "1")
    assert fresh.policy_version == 1
    assert [p.name for p in tmp_path.iterdir()] == ["1"]


def test_a_failed_save_leaves_nothing(world, tmp_path, monkeypatch):
    import learner.checkpoint

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(learner.checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        learner_of(world).save(tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["ppo", "vl_dac"])
def test_a_new_stage_takes_up_weights_and_versions_but_no_moments(world, tmp_path, other):
    first = learner_of(world)
    train_once(first, world)
    first.save(tmp_path / "1")
    second = learner_of(world, config({"algorithm": other}), seed=77)
    second.load(tmp_path / "1", fresh_optimizer=True)
    assert all(torch.equal(p, weights(second)[n]) for n, p in weights(first).items())
    assert second.policy_version == 1 and second.ledger == first.ledger
    assert not second._loop.optimizer.state_dict()["state"]
    train_once(second, world)
    kept = learner_of(world, seed=77)
    kept.load(tmp_path / "1")
    train_once(kept, world)
    assert not all(torch.equal(p, weights(kept)[n]) for n, p in weights(second).items()), "moments matter"


@pytest.fixture
def saved(world, tmp_path):
    learner = learner_of(world)
    train_once(learner, world)
    return learner.save(tmp_path / "1")


@pytest.mark.parametrize(
    "name",
    ["counters.json", "value_head.safetensors", "optimizer.safetensors", "adapter/adapter_model.safetensors"],
)
def test_a_missing_file_is_named_and_changes_nothing(world, saved, name):
    (saved / name).unlink()
    learner = learner_of(world)
    before = {n: p.detach().clone() for n, p in weights(learner).items()}
    with pytest.raises(CheckpointError, match=name.split("/")[-1]):
        learner.load(saved)
    assert all(torch.equal(before[n], p) for n, p in weights(learner).items())
    assert learner.policy_version == 0


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"{not json"])
@pytest.mark.parametrize("name", ["counters.json", "optimizer.safetensors"])
def test_damaged_files_are_refused(world, saved, name, content):
    (saved / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        learner_of(world).load(saved)


def test_a_missing_directory_names_the_path(world, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere.*not a checkpoint.*Cure"):
        learner_of(world).load(tmp_path / "nowhere")


def test_other_base_weights_are_refused(world, world_of, saved, tmp_path):
    with pytest.raises(CheckpointError, match="other base weights"):
        learner_of(world_of("llava")).load(saved)


def test_another_adapter_shape_is_refused(world, saved):
    for lora in (LoraConfig(rank=8, alpha=8), LoraConfig(rank=4, alpha=16)):
        with pytest.raises(CheckpointError, match="another shape"):
            learner_of(world, config().model_copy(update={"lora": lora})).load(saved)


def test_another_format_is_refused(world, saved):
    counters = json.loads((saved / "counters.json").read_text())
    (saved / "counters.json").write_text(json.dumps(counters | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        learner_of(world).load(saved)


def test_counters_without_a_key_are_refused_and_change_nothing(world, saved):
    counters = json.loads((saved / "counters.json").read_text())
    del counters["admission"]
    (saved / "counters.json").write_text(json.dumps(counters))
    learner = learner_of(world)
    with pytest.raises(CheckpointError, match="counters .* damaged: KeyError.*admission"):
        learner.load(saved)
    assert learner.policy_version == 0
    assert all(float(p.detach().abs().max()) == 0 for n, p in weights(learner).items() if "lora_B" in n)


def test_version_0_can_be_saved_and_resumed(world, tmp_path):
    first = learner_of(world, seed=5)
    first.save(tmp_path / "0")
    second = learner_of(world, seed=6)
    second.load(tmp_path / "0")
    train_once(first, world)
    train_once(second, world)
    assert all(torch.equal(p, weights(second)[n]) for n, p in weights(first).items())


def test_the_fingerprint_depends_on_weights_not_on_the_place(world, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(world.folder, copy)
    assert model_fingerprint(copy) == model_fingerprint(world.folder)
    weights_file = copy / "model.safetensors"
    data = bytearray(weights_file.read_bytes())
    data[-1] ^= 1
    weights_file.write_bytes(bytes(data))
    assert model_fingerprint(copy) != model_fingerprint(world.folder)
