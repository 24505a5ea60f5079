import os

import pytest

from envs.alfworld.game_files import WORLD_FILE, find_games
from envs.alfworld.game_index import indexed
from tests.envs.alfworld.test_game_files import write_game


@pytest.fixture
def scan(tmp_path):
    """A scan that counts its calls, and ways to use it: (games, cache, scan, calls)."""
    games, cache, calls = tmp_path / "games", tmp_path / "cache", []
    write_game(games / "a")
    write_game(games / "b", "pick_two_obj_and_place")

    def counted(folder):
        calls.append(folder)
        return find_games(folder)

    return games, cache, counted, calls


def test_an_unchanged_folder_is_read_once(scan):
    games, cache, counted, calls = scan
    assert indexed(games, cache, counted) == indexed(games, cache, counted) == find_games(games)
    assert len(calls) == 1


def test_every_change_is_noticed(scan):
    games, cache, counted, calls = scan
    indexed(games, cache, counted)
    write_game(games / "c")
    assert len(indexed(games, cache, counted)) == 3
    os.utime(games / "c" / WORLD_FILE, ns=(1, 1))
    indexed(games, cache, counted)
    (games / "c" / WORLD_FILE).unlink()
    assert len(indexed(games, cache, counted)) == 2
    assert len(calls) == 4


def test_equal_folders_elsewhere_are_others(scan, tmp_path):
    games, cache, counted, calls = scan
    indexed(games, cache, counted)
    games.rename(tmp_path / "moved")
    assert indexed(tmp_path / "moved", cache, counted)[0].path.is_file()
    assert len(calls) == 2


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"key": "a"}]', '[{"key": "a", "goal": {"colour": 1}}]'])
def test_a_damaged_index_is_written_anew(scan, content):
    games, cache, counted, calls = scan
    indexed(games, cache, counted)
    next(cache.iterdir()).write_text(content)
    assert indexed(games, cache, counted) == indexed(games, cache, counted) == find_games(games)
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(scan, tmp_path):
    games, _, counted, calls = scan
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert indexed(games, tmp_path / "file" / "cache", counted) == find_games(games)
    assert len(calls) == 2
