import json
import threading

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld import panels
from envs.alfworld.errors import GameFilesError, GenerationError
from envs.alfworld.generator import MANIFEST_FILE, Panel
from envs.alfworld.panels import PANELS, is_generated, panel_folder, panel_home, write_whole
from envs.alfworld.scene import Difficulty
from envs.alfworld.sources import games_folder


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Panels that write a manifest only, and the folders in which they did."""
    folders = []

    def write(panel, folder, workers, done):
        folders.append(folder)
        done(panel.games, panel.games)
        (folder / "json_2.1.1" / "train").mkdir(parents=True)
        (folder / MANIFEST_FILE).write_text(json.dumps({"recipe": str(panel)}))
        return "digest"

    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path))
    monkeypatch.setattr(panels, "write_panel", write)
    return folders


def test_a_panel_is_written_once_and_under_its_name_only_when_whole(written, tmp_path):
    folder = panel_folder("tiny")
    assert folder.parent == tmp_path / "alfworld" and folder.name.startswith("tiny-")
    assert panel_folder("tiny") == folder and len(written) == 1
    assert written[0] != folder and not written[0].exists()
    assert json.loads((folder / MANIFEST_FILE).read_text())["recipe"] == str(PANELS["tiny"])


def test_it_is_known_whether_a_panel_is_there_and_progress_is_told(written):
    told = []
    assert not is_generated(panel_home("tiny"))
    assert panel_folder("tiny", done=lambda *numbers: told.append(numbers)) == panel_home("tiny")
    assert is_generated(panel_home("tiny")) and told == [(84, 84)]


def test_a_folder_that_holds_something_is_left_alone(written, tmp_path):
    (tmp_path / "empty").mkdir()
    assert write_whole(PANELS["tiny"], tmp_path / "empty") == "digest"
    with pytest.raises(GenerationError, match="empty is not an empty folder"):
        write_whole(PANELS["tiny"], tmp_path / "empty")
    assert len(written) == 1


def test_another_recipe_gets_another_folder(written, monkeypatch):
    names = {panel_folder(name).name for name in PANELS}
    monkeypatch.setattr(panels, "GENERATOR_VERSION", panels.GENERATOR_VERSION + 1)
    assert panel_folder("tiny").name not in names


def test_a_failed_generation_leaves_nothing(written, tmp_path, monkeypatch):
    def fail(panel, folder, workers, done):
        (folder / "half").write_text("")
        raise GenerationError("no such luck")

    monkeypatch.setattr(panels, "write_panel", fail)
    with pytest.raises(GenerationError, match="no such luck"):
        panel_folder("small")
    assert [path.suffix for path in (tmp_path / "alfworld").iterdir()] == [".lock"]


def test_many_ask_and_one_writes(written):
    threads = [threading.Thread(target=panel_folder, args=("tiny",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(written) == 1


def test_waiting_for_another_process_has_an_end(written, tmp_path, monkeypatch):
    monkeypatch.setattr(panels, "_DEADLINE_S", 0.3)
    lock = tmp_path / "alfworld" / "busy.lock"
    lock.parent.mkdir()
    with panels._locked(lock), pytest.raises(GenerationError, match=r"waited 0.3 s .* to generate busy"):
        with panels._locked(lock):
            pass


@pytest.mark.parametrize("arguments", [(0, 0, 0), (6, 7, 0), (6, 6, -1), (6, 6, 6, -1)])
def test_impossible_panels_are_refused(arguments):
    with pytest.raises(ValueError, match="is no panel"):
        Panel(Difficulty((3, 4), (2, 2)), *arguments)


def test_sources_of_games(written, tmp_path, monkeypatch):
    assert games_folder("tiny", "train") == panel_folder("tiny") / "json_2.1.1" / "train"
    monkeypatch.setenv("ALFWORLD_DATA", str(panel_folder("tiny")))
    assert games_folder("official", "train") == panel_folder("tiny") / "json_2.1.1" / "train"
    assert games_folder(str(panel_folder("tiny")), "train") == panel_folder("tiny") / "json_2.1.1" / "train"
    assert games_folder(str(panel_folder("tiny") / "json_2.1.1"), "train") == games_folder("tiny", "train")
    assert games_folder(str(tmp_path), "train") == tmp_path


def test_missing_sources_are_named(written, tmp_path, monkeypatch):
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(GameFilesError, match="nowhere.*croupier alfworld fetch"):
        games_folder("official", "train")
    with pytest.raises(GameFilesError, match="'huge' is none of them"):
        games_folder("huge", "train")
    with pytest.raises(GameFilesError, match="not 'test'"):
        games_folder("tiny", "test")
