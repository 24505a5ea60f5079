import json

import pytest

from envs.alfworld.errors import GameFilesError
from envs.alfworld.game_files import MOVABLE, TRAJ_FILE, WORLD_FILE, Skipped, find_games, scan, select
from envs.alfworld.goal import TASK_TYPES

PARAMS = {"object_target": "Mug", "parent_target": "Desk", "toggle_target": "", "mrecep_target": ""}
SIMPLE = "pick_and_place_simple"


def write_game(folder, task_type=SIMPLE, solvable: object = True, params=PARAMS):
    """Files as far as the loader reads them; `...` leaves the mark of solvability out."""
    folder.mkdir(parents=True)
    (folder / WORLD_FILE).write_text(json.dumps({} if solvable is ... else {"solvable": solvable}))
    (folder / TRAJ_FILE).write_text(json.dumps({"task_type": task_type, "pddl_params": params}))


def test_games_are_sorted_and_named_by_their_folder(tmp_path):
    for name in ("b/trial_1", "a/trial_2", "a/trial_1"):
        write_game(tmp_path / name)
    games = find_games(tmp_path)
    assert [game.key for game in games] == ["a/trial_1", "a/trial_2", "b/trial_1"]
    assert games[0].path == tmp_path / "a/trial_1" / WORLD_FILE
    assert games[0].goal.target == "mug"


def test_what_cannot_be_played_is_left_out(tmp_path):
    write_game(tmp_path / "good")
    write_game(tmp_path / "unsolvable", solvable=False)
    write_game(tmp_path / "unknown", solvable=None)
    write_game(tmp_path / "unmarked", solvable=...)
    write_game(tmp_path / "pick_and_place_with_movable_recep-Mug")
    write_game(tmp_path / "pick-AppleSliced")
    write_game(tmp_path / "half")
    (tmp_path / "half" / TRAJ_FILE).unlink()
    write_game(tmp_path / "other-name", MOVABLE)
    write_game(tmp_path / "other-params", params={**PARAMS, "object_sliced": True})
    (tmp_path / "no-game").mkdir()
    (tmp_path / "half-other").mkdir()
    (tmp_path / "half-other" / TRAJ_FILE).write_text("{}")
    found = scan(tmp_path)
    assert [game.key for game in found.games] == ["good"] == [game.key for game in find_games(tmp_path)]
    assert found.skipped == {Skipped.UNSUPPORTED: 4, Skipped.UNPROVEN: 3, Skipped.INCOMPLETE: 1}


def test_what_is_passed_over_is_not_even_read(tmp_path):
    write_game(tmp_path / "pick-AppleSliced")
    (tmp_path / "pick-AppleSliced" / WORLD_FILE).write_text("{")
    assert scan(tmp_path).skipped == {Skipped.UNSUPPORTED: 1}


def test_only_names_below_the_folder_count(tmp_path):
    write_game(tmp_path / "Sliced" / "train" / "game")
    assert [game.key for game in find_games(tmp_path / "Sliced" / "train")] == ["game"]


def test_task_types_are_selected(tmp_path):
    write_game(tmp_path / "simple")
    write_game(tmp_path / "two", "pick_two_obj_and_place")
    games = find_games(tmp_path)
    assert [game.key for game in select(games, ["pick_two_obj_and_place"])] == ["two"]
    assert select(games, TASK_TYPES) == games


def test_no_games_is_an_error(tmp_path):
    with pytest.raises(GameFilesError, match="holds no solvable game .passed over: none at all"):
        find_games(tmp_path)
    write_game(tmp_path / "unsolvable", solvable=False)
    with pytest.raises(GameFilesError, match="passed over: 1 x not marked as solvable"):
        find_games(tmp_path)
    with pytest.raises(GameFilesError, match="there is no folder"):
        find_games(tmp_path / "nowhere")
    write_game(tmp_path / "simple")
    with pytest.raises(GameFilesError, match="none of 1 games is of the task types look_at_obj_in_light"):
        select(find_games(tmp_path), ["look_at_obj_in_light"])
    with pytest.raises(GameFilesError, match="unknown ALFWorld task type 'juggle'"):
        select(find_games(tmp_path), ["juggle"])


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff"])
def test_a_damaged_file_is_named(tmp_path, content):
    write_game(tmp_path / "game")
    (tmp_path / "game" / WORLD_FILE).write_text(content, errors="surrogateescape")
    with pytest.raises(GameFilesError, match=r"game\.tw-pddl"):
        find_games(tmp_path)


def test_a_task_without_target_is_named(tmp_path):
    write_game(tmp_path / "game", params={})
    with pytest.raises(GameFilesError, match="traj_data.json describes no task: 'object_target'"):
        find_games(tmp_path)
