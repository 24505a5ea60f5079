"""The package's own downloader against a server of this test's own; nothing leaves the machine."""

import io
import json
import tempfile
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from cluster.alfworld import fetch as alfworld_fetch
from cluster.alfworld.fetch import ARCHIVES, downloader, fetch
from envs.alfworld.errors import GameFilesError
from envs.alfworld.game_files import scan
from envs.errors import EnvSetupError

GAME = "json_2.1.1/train/pick_and_place_simple-Mug-None-Desk-1/trial_1"
PARAMS = {"object_target": "Mug", "parent_target": "Desk", "toggle_target": "", "mrecep_target": ""}
FILES = {
    "json_2.1.1_json.zip": (f"{GAME}/traj_data.json", {"task_type": "pick_and_place_simple", "pddl_params": PARAMS}),
    "json_2.1.2_tw-pddl.zip": (f"{GAME}/game.tw-pddl", {"solvable": True}),
}


def archive(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(name, json.dumps(content))
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    def __init__(self, served, asked, *arguments):
        self.served, self.asked = served, asked
        super().__init__(*arguments)

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        content = self.served.get(name)
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """What is served by name, the names that were asked for, and the downloader pointed to it."""
    served, asked = {name: archive(*file) for name, file in FILES.items()}, []
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, served, asked))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    script = downloader()
    for name in [key for key in vars(script) if key.endswith("_URL")]:
        original = getattr(script, name).rpartition("/")[2]
        setattr(script, name, f"http://127.0.0.1:{running.server_port}/{original}")
    monkeypatch.setattr(alfworld_fetch, "downloader", lambda: script)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))  # put back after the test
    yield served, asked
    running.shutdown()
    running.server_close()


def test_the_two_archives_of_the_text_games_are_fetched_and_no_more(server, tmp_path):
    _, asked = server
    addresses = fetch(tmp_path / "data")
    assert asked == list(FILES) and [address.rpartition("/")[2] for address in addresses] == asked
    assert [game.key for game in scan(tmp_path / "data").games] == [GAME]
    assert list((tmp_path / "data").glob("*.zip")) == []


def test_a_damaged_file_is_replaced_by_force_only(server, tmp_path):
    fetch(tmp_path)
    world = tmp_path / GAME / "game.tw-pddl"
    world.write_text("{")
    fetch(tmp_path)
    assert world.read_text() == "{"
    fetch(tmp_path, force=True)
    assert json.loads(world.read_text()) == {"solvable": True}


def test_a_missing_archive_is_named(server, tmp_path):
    served, _ = server
    del served["json_2.1.2_tw-pddl.zip"]
    with pytest.raises(
        GameFilesError, match=r"could not fetch http://127.*tw-pddl\.zip into .*HTTPError: 404.*check the"
    ):
        fetch(tmp_path)


def test_an_archive_that_is_none_is_named_and_thrown_away(server, tmp_path):
    served, _ = server
    whole, served["json_2.1.1_json.zip"] = served["json_2.1.1_json.zip"], b"<html>log in first</html>"
    with pytest.raises(GameFilesError, match="BadZipFile"):
        fetch(tmp_path)
    served["json_2.1.1_json.zip"] = whole
    fetch(tmp_path)
    assert len(scan(tmp_path).games) == 1


def test_a_silent_server_is_not_waited_for_for_ever(server, tmp_path, monkeypatch):
    def hang(self):
        threading.Event().wait(1.0)

    monkeypatch.setattr(Handler, "do_GET", hang)
    monkeypatch.setattr(alfworld_fetch, "SILENCE_S", 0.1)
    with pytest.raises(GameFilesError, match="ReadTimeout"):
        fetch(tmp_path)


def test_no_connection_is_told_with_the_way_round(server, tmp_path):
    script: Any = alfworld_fetch.downloader()
    script.JSON_FILES_URL = "http://127.0.0.1:9/none.zip"
    with pytest.raises(
        GameFilesError, match=r"ConnectionError.*copy the folder json_2\.1\.1 from a machine that has it"
    ):
        fetch(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GameFilesError, match="cannot write to .*file/data.*--data"):
        fetch(tmp_path / "file" / "data")


def test_the_installed_script_has_what_is_used_of_it():
    script = downloader()
    assert [getattr(script, name).rpartition("/")[2] for name in ARCHIVES] == list(FILES)


def test_another_version_of_the_script_is_refused(server, tmp_path):
    script: Any = alfworld_fetch.downloader()
    del script.unzip
    with pytest.raises(EnvSetupError, match=r"has no unzip; install alfworld==0\.4\.2"):
        fetch(tmp_path)
