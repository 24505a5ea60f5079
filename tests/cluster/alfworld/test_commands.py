"""`croupier alfworld`: arguments, mistakes told before anything is loaded, and what is printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from cluster import cli
from cluster.alfworld import data as alfworld_data
from envs.alfworld.errors import GameFilesError
from envs.alfworld.generator import MANIFEST_FILE, Panel
from envs.alfworld.panels import PANELS
from envs.alfworld.scene import Difficulty
from envs.alfworld.sources import OFFICIAL_COUNTS
from protocol.errors import ConfigError
from tests.envs.alfworld.test_game_files import write_game

ROOT = Path(__file__).parents[3]


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Run a command; its output. Errors of ours are raised."""
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "official"))
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli.app, ["alfworld", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done.output

    return call


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Panels that were to be generated: (panel, folder, processes)."""
    wanted = []

    def write_whole(panel, folder, processes, done):
        wanted.append((panel, folder, processes))
        write_game(folder / "json_2.1.1" / "train" / "a")
        games = [{"game": "train/a", "task_type": "pick_and_place_simple", "steps": 4}]
        (folder / MANIFEST_FILE).write_text(json.dumps({"digest": "0123abcd", "games": games}))

    monkeypatch.setattr(alfworld_data, "write_whole", write_whole)
    return wanted


def row(output, name):
    (line,) = re.findall(rf"^│ {name} +│(.*)│$", output, re.MULTILINE)
    return [cell.strip() for cell in line.split("│")]


def test_help_lists_the_commands(call):
    assert all(re.search(rf"^│ {name} +\w", call("--help"), re.MULTILINE) for name in ("fetch", "generate", "list"))


def test_a_recipe_of_ones_own_reaches_the_generator(call, asked, tmp_path):
    out = tmp_path / "new" / "mine"
    output = call(
        *("generate", "--panel", "small", "--receptacles", "3-4", "--things", "2", "--rooms", "2"),
        *("--shared-places", "0.5", "--train", "7", "--valid-seen", "0", "--valid-unseen", "1"),
        *("--seed", "9", "--processes", "3", "--out", str(out)),
    )
    assert asked == [(Panel(Difficulty((3, 4), (2, 2), 2, 0.5), 7, 0, 1, seed=9), out, 3)]
    assert "generate 8 games" in output and "Digest: 0123abcd" in output and f"Folder: {out}" in output
    assert row(output, "all") == ["1 (4.0)"]


def test_a_panel_is_copied_under_another_name_unchanged(call, asked, tmp_path):
    call("generate", "--panel", "full", "--out", str(tmp_path / "mine"))
    assert asked[0][0] == PANELS["full"]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--panel", "huge"], "no panel 'huge'. Cure: give one of tiny, tiny_many, small, full"),
        (["--seed", "3"], "holds the named panels only. Cure: .*--out"),
        (["--receptacles", "many", "--out", "x"], "--receptacles is 'many'.* like 3-4"),
        (["--things", "3-", "--out", "x"], "--things is '3-'"),
        (["--receptacles", "9-3", "--out", "x"], r"receptacles=\(9, 3\).* is no difficulty"),
        (["--train", "1", "--out", "x"], "is no panel: it needs .*valid_seen <= train"),
    ],
)
def test_mistakes_are_told_with_their_cure(call, asked, arguments, told):
    with pytest.raises(ConfigError, match=told):
        call("generate", *arguments)
    assert asked == []


def test_a_wrong_range_loads_nothing_heavy():
    code = (
        "import sys, contextlib\nfrom cluster.alfworld import commands\n"
        "with contextlib.suppress(Exception): commands.generate(receptacles='x')\n"
        "print({'textworld', 'alfworld', 'ray', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_games_are_counted_by_split_and_task(call, tmp_path):
    for split in ("train", "valid_seen"):
        write_game(tmp_path / split / "a")
        write_game(tmp_path / split / "b", "pick_two_obj_and_place")
    write_game(tmp_path / "train" / "c")
    write_game(tmp_path / "train" / "movable-one")
    output = call("list", str(tmp_path))
    assert row(output, "pick_and_place_simple") == ["2", "1"] and row(output, "all") == ["3", "2"]
    assert "train: 1 folders passed over, movable receptacle or sliced thing" in output
    assert row(call("list", str(tmp_path / "train")), "all") == ["3"]


def test_what_is_not_there_is_told(call):
    with pytest.raises(ConfigError, match="'tiny' has not been generated .*croupier alfworld generate --panel tiny"):
        call("list", "tiny")
    with pytest.raises(GameFilesError, match="no folder .*official"):
        call("list", "official")


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Folders that something was fetched into, with one game as all of it."""
    folders = []

    def fetch(data, force):
        folders.append((data, force))
        if not (data / "train").exists():
            write_game(data / "train" / "a")
        return ["http://example.org/json.zip"]

    monkeypatch.setattr(alfworld_data, "fetch", fetch)
    return folders


def test_what_was_fetched_is_counted_and_compared(call, fetched, tmp_path):
    output = call("fetch", "--data", str(tmp_path / "data"), code=1)
    assert fetched == [(tmp_path / "data", False)]
    assert "Fetched: http://example.org/json.zip" in output and row(output, "all") == ["1"]
    assert f"export ALFWORLD_DATA={tmp_path / 'data'}" in output
    assert "Incomplete: ALFWorld has 3553 train, 140 valid_seen, 134 valid_unseen games" in output


def test_what_is_complete_is_not_fetched_again(call, fetched, tmp_path, monkeypatch):
    monkeypatch.setitem(OFFICIAL_COUNTS, "train", 1)
    monkeypatch.delitem(OFFICIAL_COUNTS, "valid_seen")
    monkeypatch.delitem(OFFICIAL_COUNTS, "valid_unseen")
    for force in ([], [], ["--force"]):
        output = call("fetch", *force)
        assert "Incomplete" not in output and "export" not in output
    assert fetched == [(tmp_path / "official", False), (tmp_path / "official", True)]
