"""The run directory: numbering, whole checkpoints or none, and files that are never seen half written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.record.run_dir import RunDir, read_state, write_json
from protocol.errors import CheckpointError, ConfigError


def filler(text: str = "weights") -> Callable[[Path], None]:
    """What the learner does: makes the folder and writes into it."""

    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "adapter").write_text(text)

    return fill


def breaks(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter").write_text("half")
    raise OSError("disk full")


def checkpoints_of(run: RunDir) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_names_are_numbered_where_they_exist(tmp_path):
    parent = tmp_path / "not" / "there"
    roots = [RunDir.create(parent, "local").root.name for _ in range(3)]
    assert roots == ["local", "local-2", "local-3"]
    assert RunDir.create(parent, "other").root == parent / "other"


def test_the_root_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RunDir.create("runs", "a").root == tmp_path / "runs" / "a"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="runs_dir is .*file/runs"):
        RunDir.create(tmp_path / "file" / "runs", "a")


def test_only_a_run_directory_can_be_opened(tmp_path):
    with pytest.raises(CheckpointError, match="no run directory"):
        RunDir.open(tmp_path)
    (tmp_path / "config.yaml").write_text("")
    assert RunDir.open(tmp_path).root == tmp_path


def test_a_checkpoint_is_the_learners_part_and_the_runs_state(tmp_path):
    run = RunDir(tmp_path)
    folder = run.write_checkpoint(4, {"update": 4, "env_steps": 9}, filler(), keep=2)
    assert folder == run.latest_checkpoint() == tmp_path / "checkpoints" / "000004"
    assert (folder / "adapter").read_text() == "weights"
    assert read_state(folder) == {"update": 4, "env_steps": 9}
    assert checkpoints_of(run) == ["000004"]


def test_the_newest_stay(tmp_path):
    run = RunDir(tmp_path)
    for update in (0, 4, 8, 999_999, 1_000_000):
        run.write_checkpoint(update, {}, filler(), keep=2)
    assert checkpoints_of(run) == ["1000000", "999999"]
    assert run.latest_checkpoint().name == "1000000"


def test_a_fill_that_fails_leaves_the_old_checkpoints_and_no_new_one(tmp_path):
    run = RunDir(tmp_path)
    run.write_checkpoint(1, {"update": 1}, filler(), keep=1)
    with pytest.raises(OSError, match="disk full"):
        run.write_checkpoint(2, {}, breaks, keep=1)
    assert run.latest_checkpoint().name == "000001"
    assert read_state(run.latest_checkpoint()) == {"update": 1}
    run.write_checkpoint(2, {}, filler("whole"), keep=1)
    assert checkpoints_of(run) == ["000002"]
    assert (run.latest_checkpoint() / "adapter").read_text() == "whole"


def test_a_fill_without_a_word_does_not_count(tmp_path):
    """Whoever breaks off between the learner's part and the state leaves nothing that looks complete."""
    run = RunDir(tmp_path)
    with pytest.raises(TypeError):
        run.write_checkpoint(1, {"update": object()}, filler(), keep=1)
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        run.latest_checkpoint()


def test_a_complete_checkpoint_is_not_written_again(tmp_path):
    run = RunDir(tmp_path)
    run.write_checkpoint(3, {"update": 3}, filler("first"), keep=2)
    assert run.write_checkpoint(3, {"update": 3}, filler("second"), keep=2) == run.latest_checkpoint()
    assert (run.latest_checkpoint() / "adapter").read_text() == "first"


@pytest.mark.parametrize("name", ["notes", "000009.old", ".000009.partial", "000009"])
def test_other_folders_are_no_checkpoints(tmp_path, name):
    run = RunDir(tmp_path)
    run.write_checkpoint(3, {}, filler(), keep=1)
    (run.checkpoints / name).mkdir()
    assert run.latest_checkpoint().name == "000003"


def test_a_run_without_checkpoints_says_so(tmp_path):
    run = RunDir(tmp_path)
    assert not run.has_checkpoint()
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        run.latest_checkpoint()
    run.write_checkpoint(0, {}, filler(), keep=1)
    assert run.has_checkpoint()


@pytest.mark.parametrize("text", [None, "{", "\x00"])
def test_a_damaged_state_is_named(tmp_path, text):
    if text is not None:
        (tmp_path / "run_state.json").write_text(text)
    with pytest.raises(CheckpointError, match="run_state.json cannot be read"):
        read_state(tmp_path)


def test_json_is_written_whole_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "card.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": [2]})
    assert json.loads(path.read_text()) == {"a": [2]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": [2]}
    assert [p.name for p in path.parent.iterdir()] == ["card.json"]
