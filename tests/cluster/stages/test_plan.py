"""Which stages a run has, what each works on, and where a run stands by what is on disk."""

from pathlib import Path

import pytest

from cluster.config import RunConfig, default_config, save_config
from cluster.record.run_dir import RunDir
from cluster.servers.served import find_policy
from cluster.stages.plan import PlannedStage, Standing, latest, plan_of
from protocol.errors import CheckpointError
from tests.cluster.servers.test_served import write_model

KINDS = ["stages.format.kind=sft", "stages.read.kind=rl", "stages.act.kind=rl", "stages.prefer.kind=dpo"]


def run_of(tmp_path: Path, *overrides: str) -> tuple[RunConfig, RunDir]:
    run, config = RunDir.create(tmp_path, "run"), default_config(overrides)
    save_config(config, run.config)
    return config, run


def write_checkpoint(run: RunDir, update: int = 4) -> Path:
    run.root.mkdir(parents=True, exist_ok=True)
    return run.write_checkpoint(update, {}, lambda folder: (folder / "package").mkdir(parents=True), keep=2)


def test_the_short_form_is_sft_then_rl_in_the_run_directory_itself(tmp_path):
    config, run = run_of(tmp_path, "sft.steps=7", "sft.demonstrations.noise=0.25")
    sft, rl = plan_of(config, run)
    assert (sft.settings.kind, rl.settings.kind) == ("sft", "rl")
    assert sft.settings.steps == 7 and sft.settings.demonstrations.noise == 0.25  # type: ignore[union-attr]
    assert sft.home == rl.home == run and sft.config == rl.config == config
    assert (rl.prefix, rl.worker_name) == ("", "worker")
    (only,) = plan_of(default_config(["sft=null"]), run)
    assert only.name == "rl"


def test_every_named_stage_has_a_folder_and_workers_of_its_own(tmp_path):
    plan = plan_of(*run_of(tmp_path, *KINDS))
    assert [stage.home.root.name for stage in plan] == ["1-format", "2-read", "3-act", "4-prefer"]
    assert len({stage.worker_name for stage in plan}) == 4
    assert plan[1].prefix == "read/"


@pytest.mark.parametrize(
    ("adapter", "foundation"), [("keep", "model"), ("fresh", "home/merged_model")], ids=["keep", "fresh"]
)
def test_an_rl_stage_keeps_the_adapter_or_stands_on_the_merged_model(tmp_path, adapter, foundation):
    plan = plan_of(*run_of(tmp_path, *KINDS, f"stages.act.adapter={adapter}"))
    before = Standing(tmp_path / "model", tmp_path / "home/checkpoints/000004")
    assert plan[2].foundation(before) == tmp_path / foundation
    assert plan[2].keeps_adapter(before) is (adapter == "keep")
    assert plan[2].foundation(Standing(tmp_path / "model")) == tmp_path / "model"
    assert plan[3].foundation(before) == tmp_path / "home/merged_model", "dpo changes the model itself"


def test_where_a_run_stands_is_told_by_what_is_on_disk(tmp_path):
    config, run = run_of(tmp_path, *KINDS)
    homes = [stage.home for stage in plan_of(config, run)]

    def where() -> tuple[str | None, Standing]:
        stage, standing = latest(config, run)
        return stage.name if isinstance(stage, PlannedStage) else None, standing

    assert where() == (None, Standing(run.base_model))
    write_checkpoint(homes[2])
    assert where()[0] is None, "what comes after a stage that has not begun does not count"
    write_model(homes[0].model)
    assert where() == ("format", Standing(homes[0].model))
    first = write_checkpoint(homes[1])
    assert where()[0] == "act"
    newest = write_checkpoint(homes[2], 8)
    assert where() == ("act", Standing(homes[0].model, newest))
    assert first != newest
    write_model(homes[3].model)
    assert where() == ("prefer", Standing(homes[3].model))


def test_what_was_trained_last_is_what_is_evaluated(tmp_path):
    config, run = run_of(tmp_path, *KINDS, "stages.act.env.prompt.memory=2")
    homes = [stage.home for stage in plan_of(config, run)]
    write_model(homes[0].model)
    source = find_policy(run.root)
    assert (source.model, source.package) == (homes[0].model, None)
    write_checkpoint(homes[1])
    checkpoint = write_checkpoint(homes[2])
    source = find_policy(run.root)
    assert (source.model, source.package) == (homes[0].model, checkpoint / "package")
    assert source.config.env.prompt.memory == 2
    write_model(homes[3].model)
    assert find_policy(run.root).package is None


def test_a_stages_folder_is_a_run_directory_too(tmp_path):
    config, run = run_of(tmp_path, *KINDS)
    format_, read = plan_of(config, run)[:2]
    write_model(format_.home.model)
    checkpoint = write_checkpoint(read.home)
    for stage, model in ((format_, tmp_path / "base"), (read, format_.home.model)):
        values = stage.config.model_dump()
        values["model"]["path"] = str(model)
        save_config(RunConfig.model_validate(values), stage.home.config)
    assert find_policy(format_.home.root).model == format_.home.model
    for name in (read.home.root, checkpoint):
        source = find_policy(name)
        assert (source.model, source.package) == (format_.home.model, checkpoint / "package")


def test_a_run_that_has_finished_nothing_has_nothing_to_serve(tmp_path):
    _, run = run_of(tmp_path, *KINDS)
    with pytest.raises(CheckpointError, match="no complete checkpoint, and no model"):
        find_policy(run.root)
