"""Where a stage's rows come from, and whether they mean the same to its model."""

from pathlib import Path

import pytest

from cluster.config import default_config
from cluster.record.run_dir import RunDir
from cluster.record.trajectory_files import TrajectoryFiles
from cluster.stages.jobs import sampled_rows, versions_in
from cluster.stages.rows import check_sources, source_folder
from protocol.errors import ConfigError, TrajectoryError
from tests.actors.toy_folder import write_toy_folder
from tests.protocol.steps import DIGEST, VERSION, batch_of, step

DPO = ["stages.act.kind=rl", "stages.prefer.kind=dpo"]


def rows_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "steps-000001.parquet").write_bytes(b"")
    return folder


def test_a_source_is_a_stage_a_run_or_a_folder_of_rows(tmp_path):
    run = RunDir(tmp_path / "run")
    config = default_config([*DPO, "stages.again={kind: rejection, samples: {source: prefer}}"])
    assert source_folder(config, run, "act") == run.root / "stages/1-act/trajectories"
    assert source_folder(config, run, "prefer") == run.root / "stages/2-prefer/trajectories"
    shared = default_config([*DPO, "stages.prefer.samples.source=act", "stages.last.kind=rl"])
    assert source_folder(shared, run, "prefer") == run.root / "stages/1-act/trajectories"
    rows = rows_in(tmp_path / "other/trajectories")
    assert source_folder(config, run, str(tmp_path / "other")) == rows
    assert source_folder(config, run, str(rows)) == rows


def test_what_holds_no_rows_is_named_with_the_stages_that_do(tmp_path):
    rows_in(tmp_path / "staged/stages/2-act/trajectories")
    config = default_config(DPO)
    with pytest.raises(ConfigError, match=r"no sampled rows in .*name one of its stages: .*/staged/stages/2-act"):
        source_folder(config, RunDir(tmp_path), str(tmp_path / "staged"))
    with pytest.raises(ConfigError, match="no sampled rows in 'nowhere'"):
        check_sources(default_config([*DPO, "stages.prefer.samples.source=nowhere"]))
    with pytest.raises(ConfigError, match="no sampled rows in 'nothing'"):
        check_sources(default_config(["stages.words={kind: sft, rows: nothing}"]))
    check_sources(default_config([*DPO, "stages.prefer.samples.source=act"]))


def write_rows(folder: Path, text: str) -> str:
    TrajectoryFiles(folder).write(1, [batch_of([step(response_text=text)])])
    return str(folder)


def test_rows_of_another_tokenizer_are_refused(tmp_path):
    model = str(write_toy_folder(tmp_path / "model"))
    batch = sampled_rows(write_rows(tmp_path / "same", "{ab"), model)
    assert batch.steps.num_rows == 1 and versions_in(batch) == {VERSION: DIGEST}
    with pytest.raises(TrajectoryError, match="another tokenizer: tokens that said 'good' there say '{ab' to "):
        sampled_rows(write_rows(tmp_path / "other", "good"), model)
    with pytest.raises(TrajectoryError, match="no rows in"):
        sampled_rows(str(tmp_path / "empty"), model)
