"""The real text engine on generated games: generation, play, reproducibility."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.engine import borrow, give_back
from envs.alfworld.errors import EngineError
from envs.alfworld.game_files import find_games, select
from envs.alfworld.generator import DATA_FOLDER, MANIFEST_FILE, SPLITS, Panel, write_panel
from envs.alfworld.goal import TASK_TYPES, goal_fraction
from envs.alfworld.parse_cache import propositions
from envs.alfworld.scene import Difficulty
from envs.alfworld.text_env import AlfworldText
from envs.alfworld.text_task import AlfworldTextTask
from envs.check import check_env

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PANEL = Panel(Difficulty((4, 12), (4, 10), rooms=2, shared_places=0.3), train=6, valid_seen=6, valid_unseen=6, seed=3)


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel")
    write_panel(PANEL, folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def engine():
    engine = borrow()
    yield engine
    give_back(engine)


def test_a_panel_has_every_task_type_in_every_split(panel):
    manifest = json.loads((panel / MANIFEST_FILE).read_text())
    for split in SPLITS:
        games = find_games(panel / DATA_FOLDER / split)
        assert sorted(game.goal.task_type for game in games) == sorted(TASK_TYPES)
        assert {f"{split}/{game.key}" for game in games} < {game["game"] for game in manifest["games"]}


def test_seen_games_share_the_layout_but_not_the_game(panel):
    groups = {split: {path.name for path in (panel / DATA_FOLDER / split).iterdir()} for split in SPLITS}
    assert groups["train"] == groups["valid_seen"]
    assert not groups["train"] & groups["valid_unseen"]
    worlds = [
        json.loads(game.path.read_text())["pddl_problem"]
        for split in SPLITS
        for game in find_games(panel / DATA_FOLDER / split)
    ]
    assert len(set(worlds)) == len(worlds)


def test_other_processes_write_the_same_bytes(panel, tmp_path):
    code = (
        "import sys; from pathlib import Path; from envs.alfworld.generator import *; "
        f"from envs.alfworld.scene import Difficulty; print(write_panel({PANEL!r}, Path(sys.argv[1]), 2))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.strip() == json.loads((panel / MANIFEST_FILE).read_text())["digest"]


def test_walkthroughs_win_and_the_fraction_is_one_exactly_then(panel, engine):
    for split in SPLITS:
        for game in find_games(panel / DATA_FOLDER / split):
            state = engine.start(game.path)
            for command in json.loads(game.path.read_text())["walkthrough"]:
                assert not state.won and goal_fraction(state.world, game.goal) < 1
                assert command in state.admissible
                state = engine.send(command)
            assert state.won and goal_fraction(state.world, game.goal) == 1


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_searching_player_wins_even_when_disturbed(panel, noise):
    env, task, rng = AlfworldText(games=str(panel), split="valid_unseen", max_steps=150), AlfworldTextTask(), None
    rng = np.random.default_rng(0)
    for game in find_games(panel / DATA_FOLDER / "valid_unseen"):
        observation, info = env.reset(options={"game": game.key})
        ended = False
        while not ended:
            action = json.loads(task.expert(info, rng, noise))["action"]
            observation, reward, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        assert task.success(0.0, info), (game.key, observation)
        assert reward > 49 if noise == 0 else reward >= 50
    env.close()


@pytest.mark.parametrize("env_id", ["alfworld/Text-v0", "alfworld/Schematic-v0"])
def test_the_environment_conforms(panel, env_id):
    report = check_env(env_id, games=str(panel), task_types=["pick_and_place_simple"], max_steps=12, episodes=2)
    assert report.passed, str(report)


def test_two_engines_take_turns_without_disturbing_each_other(panel):
    games = find_games(panel / DATA_FOLDER / "train")[:2]
    plays = [json.loads(game.path.read_text())["walkthrough"] for game in games]
    engines = [borrow(), borrow()]
    states = [engine.start(game.path) for engine, game in zip(engines, games, strict=True)]
    for index in range(max(map(len, plays))):
        for player, commands in enumerate(plays):
            if index < len(commands):
                states[player] = engines[player].send(commands[index])
    assert all(state.won for state in states)
    for engine in engines:
        give_back(engine)


def test_a_game_goes_on_while_another_engine_starts_one(panel):
    def play(disturb):
        game, other = find_games(panel / DATA_FOLDER / "train")[:2]
        player, second = borrow(), borrow()
        states = [player.start(game.path)]
        for command in json.loads(game.path.read_text())["walkthrough"]:
            if disturb:
                second.start(other.path)  # empties the memory of propositions that both share
            states.append(player.send(command))
        give_back(player)
        give_back(second)
        return states

    quiet = play(False)
    assert quiet[-1].won and play(True) == quiet


def test_the_programs_arguments_are_left_alone(panel, engine, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mine", "--own"])
    engine.start(find_games(panel / DATA_FOLDER / "train")[0].path)
    assert sys.argv == ["mine", "--own"]


def test_propositions_of_past_games_are_forgotten(panel, engine):
    games = find_games(panel / DATA_FOLDER / "train")
    sizes = []
    for game in (games[0], *games[1:], games[0]):
        engine.start(game.path)
        sizes.append(len(propositions()))
    assert 0 < sizes[0] == sizes[-1] < sum(sizes[1:-1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("grammar"),
        lambda data: data.update(pddl_problem="(define (problem"),
        lambda data: data.update(pddl_problem=data["pddl_problem"].replace("agent1 - agent", "agent1 - agent\n" * 2)),
        lambda data: data.update(pddl_problem=data["pddl_problem"].replace("pickupable", "openable")),
        lambda data: data.update(pddl_problem=data["pddl_problem"].replace("- location", "- planet", 1)),
    ],
    ids=["no grammar", "cut off", "declared twice", "impossible", "unknown type"],
)
def test_damaged_games_are_named_and_the_engine_survives(panel, tmp_path, engine, damage):
    good = select(find_games(panel / DATA_FOLDER / "train"), ["pick_and_place_simple"])[0]
    data = json.loads(good.path.read_text())
    damage(data)
    bad = Path(tmp_path / "game.tw-pddl")
    bad.write_text(json.dumps(data))
    with pytest.raises(EngineError, match=r"cannot play .*game\.tw-pddl"):
        engine.start(bad)
    assert not engine.start(good.path).won
