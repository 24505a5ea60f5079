# pyright: reportMissingImports=false
# (alfworld is an optional extra: types are checked with and without it)
"""Games in the wording and the surroundings of ALFWorld's own data, through the same loader, engine and player."""

import json

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from alfworld.agents.environment.alfred_tw_env import AlfredTWEnv

from envs.alfworld.engine import borrow, give_back
from envs.alfworld.game_files import Skipped, scan
from envs.alfworld.generator import DATA_FOLDER, solve
from envs.alfworld.goal import TASK_TYPES
from envs.alfworld.text_env import AlfworldText
from envs.alfworld.text_task import AlfworldTextTask
from tests.envs.alfworld.official_like import age_tree
from tests.envs.alfworld.test_game_files import write_game

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("own_cache")]


@pytest.fixture
def official(tree, tmp_path, monkeypatch):
    """$ALFWORLD_DATA with aged games, and beside them everything that the official folders hold and we do not play."""
    folder = tmp_path / "data"
    train = folder / DATA_FOLDER / "train"
    age_tree(tree / DATA_FOLDER / "train", train)
    params = {"object_target": "Mug", "parent_target": "Desk", "toggle_target": "", "mrecep_target": "Bowl"}
    write_game(train / "pick_and_place_with_movable_recep-Mug-Bowl-Desk-1" / "trial_1")
    write_game(train / "renamed" / "trial_1", "pick_and_place_with_movable_recep", params=params)
    write_game(train / "pick_and_place_simple-AppleSliced-None-Fridge-2" / "trial_1")
    write_game(train / "pick_and_place_simple-Mug-None-Desk-3" / "trial_1", solvable=False)
    write_game(train / "pick_and_place_simple-Mug-None-Desk-3" / "trial_2", solvable=None)
    write_game(train / "pick_and_place_simple-Mug-None-Desk-3" / "trial_3", solvable=...)
    (train / "pick_and_place_simple-Mug-None-Desk-4" / "trial_1").mkdir(parents=True)
    (folder / "detectors").mkdir()
    (folder / "logic").mkdir()
    (folder / "logic" / "alfred.pddl").write_text("")
    monkeypatch.setenv("ALFWORLD_DATA", str(folder))
    return train


def test_only_what_can_be_played_is_found_and_the_rest_is_counted(official):
    found = scan(official)
    assert sorted(game.goal.task_type for game in found.games) == sorted(TASK_TYPES)
    assert found.skipped == {Skipped.UNSUPPORTED: 3, Skipped.UNPROVEN: 3}


def test_alfworlds_own_loader_finds_the_same(official, tree):
    for folder in (official, tree / DATA_FOLDER / "train"):
        config = {
            "dataset": {"data_path": str(folder), "num_train_games": -1},
            "env": {"task_types": [1, 2, 3, 4, 5, 6], "goal_desc_human_anns_prob": 0},
        }
        theirs = AlfredTWEnv(config, train_eval="train").game_files
        assert sorted(theirs) == sorted(str(game.path) for game in scan(folder).games) != []


def test_the_player_wins_each_in_the_old_wording(official):
    engine = borrow()
    for game in scan(official).games:
        commands = solve(engine, game.path, game.goal)
        assert any(command.startswith("put ") for command in commands) or game.goal.lamp
        assert not any(command.startswith("move ") for command in commands)
    give_back(engine)


def test_the_environment_plays_them_as_any_other(official):
    env, task = AlfworldText(games="official", max_steps=80), AlfworldTextTask()
    for game in scan(official).games:
        observation, info = env.reset(options={"game": game.key})
        assert info["room"].startswith("You are in the middle of a room.") and "help" not in info["admissible_commands"]
        arrivals, ended = [], False
        while not ended:
            action = info["expert"][0]
            observation, _, terminated, truncated, info = env.step(task.env_action(action, info))
            arrivals += [observation] if action.startswith("go to") else []
            ended = terminated or truncated
        assert info["won"] and info["goal_condition_success_rate"] == 1
        assert all(text.startswith("You arrive at loc ") for text in arrivals)
    env.close()


def test_the_files_are_not_those_that_were_generated(official, tree):
    old, new = (next(iter(sorted(root.rglob("game.tw-pddl")))) for root in (official, tree / DATA_FOLDER / "train"))
    assert "_dot_" in old.read_text() and "_dot_" not in new.read_text()
    assert "walkthrough" in json.loads(new.read_text()) and "walkthrough" not in json.loads(old.read_text())
