"""The environment's own rules, against a scripted stand-in for the engine (not the real one)."""

import json
from typing import Any

import gymnasium
import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld import text_env
from envs.alfworld.engine import EngineState
from envs.alfworld.errors import EngineError
from envs.alfworld.text_env import AlfworldText
from envs.errors import ResetOptionsError
from tests.envs.alfworld.test_game_files import write_game
from tests.envs.alfworld.worlds import at, holding, kitchen

COMMANDS = ("go to cabinet 1", "go to countertop 1", "take mug 1 from countertop 1", "look", "win")
INTRO = "You are in the middle of a room. You see a countertop 1.\nYour task is to: look at mug under the desklamp."


class ScriptedEngine:
    """Worlds follow the commands by table; it is a fake."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def start(self, path):
        self.changes: tuple[str, ...] = ()
        return EngineState(INTRO, COMMANDS, False, kitchen())

    def send(self, command):
        self.sent.append(command)
        if command.startswith("take"):
            self.changes = (*at("loc 3"), *holding("mug 1", "countertop 1"))
        elif command == "look":
            self.changes = at("loc 3")
        if command == "win":
            self.changes = (*at("loc 3"), *holding("mug 1", "countertop 1"), "istoggled desklamp 1")
        return EngineState(f"You did: {command}.", COMMANDS, command == "win", kitchen(*self.changes))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Environments of three games on one scripted engine."""
    params = {"object_target": "Mug", "parent_target": "", "toggle_target": "DeskLamp"}
    for name in "abc":
        write_game(tmp_path / name, "look_at_obj_in_light", params=params)
    engine = ScriptedEngine()
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_env, "borrow", lambda: engine)
    monkeypatch.setattr(text_env, "give_back", lambda engine: None)

    def build(**kwargs: Any) -> AlfworldText:
        env = AlfworldText(games=str(tmp_path), **kwargs)
        env.reset(seed=0)
        return env

    return build


def test_progress_is_paid_once_and_taken_back(make):
    env = make()
    paid = [env.step(command)[1] for command in ("take mug 1 from countertop 1", "go to countertop 1", "look")]
    assert paid == [0.5, 0.0, -0.5]
    assert env.step("win")[1] == 51.0


def test_as_a_level_it_is_paid_at_every_step(make):
    env = make(goal_reward="level")
    paid = [env.step(command)[1] for command in ("take mug 1 from countertop 1", "go to countertop 1", "look", "win")]
    assert paid == [0.5, 0.5, 0.0, 51.0]


def test_it_can_be_switched_off(make):
    env = make(goal_reward="off")
    assert [env.step(command)[1] for command in ("take mug 1 from countertop 1", "win")] == [0.0, 50.0]


def test_text_that_names_no_command_costs_one_and_changes_nothing(make):
    env = make()
    observation, reward, terminated, truncated, info = env.step("fly\nto the moon")
    assert (observation, reward, terminated, truncated) == ("Nothing happens.", -1.0, False, False)
    assert (info["legal"], info["command"], info["observation"]) == (False, "", "Nothing happens.")
    assert info["history"] == [("fly to the moon", "Nothing happens.")]
    assert env._engine.sent == []
    assert env.step("I LOOK around")[4]["command"] == "look"


def test_endless_text_is_quoted_in_part(make):
    assert make().step("fly " * 10_000)[4]["history"][0][0] == ("fly " * 50)[:200]


def test_a_failed_reset_leaves_no_episode(make, monkeypatch):
    env = make()

    def fail(path):
        raise EngineError("damaged")

    monkeypatch.setattr(env._engine, "start", fail)
    with pytest.raises(EngineError):
        env.reset()
    with pytest.raises(gymnasium.error.ResetNeeded, match="after a failed reset"):
        env.step("look")


def test_the_step_limit_is_exact_and_no_end_of_the_task(make):
    env = make(max_steps=3)
    ends = [env.step("look")[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(gymnasium.error.ResetNeeded, match="after the end"):
        env.step("look")


def test_a_win_in_the_last_step_is_terminated_only(make):
    env = make(max_steps=1)
    assert env.step("win")[2:4] == (True, False)


def test_illegal_text_counts_as_a_step(make):
    env = make(max_steps=2)
    assert [env.step("fly")[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("memory", [0, 1, 2])
def test_history_holds_the_last_pairs(make, memory):
    env = make(memory=memory)
    for command in ("look", "go to countertop 1", "look"):
        info = env.step(command)[4]
    commands = ["look", "go to countertop 1", "look"][3 - memory :]
    assert info["history"] == [(command, f"You did: {command}.") for command in commands]
    assert info["steps"] == 3
    assert info["room"].endswith("a countertop 1.") and info["task"] == "look at mug under the desklamp"


def test_the_seed_alone_decides_the_games(make):
    def games(env, seed):
        return [env.reset(seed=seed if first else None)[1]["game"] for first in (True, *[False] * 20)]

    first, second = make(), make()
    assert games(first, 7) == games(second, 7) != games(second, 8)
    assert set(games(first, 7)) == {"a", "b", "c"}


def test_a_game_can_be_chosen(make):
    env = make()
    assert env.reset(options={"game": "b"})[1]["game"] == "b"
    with pytest.raises(ResetOptionsError, match="no game 'z' among 3; the first is 'a'"):
        env.reset(options={"game": "z"})
    with pytest.raises(ResetOptionsError, match="'level' is unknown"):
        env.reset(options={"level": 1})


def test_infos_are_copies(make):
    env = make()
    info = env.step("look")[4]
    before = json.dumps(info)
    info["admissible_commands"].clear()
    assert env.step("look")[4]["admissible_commands"] == list(COMMANDS)
    assert json.loads(before)["history"] == [["look", "You did: look."]] == [list(pair) for pair in info["history"]]


def test_a_won_game_has_no_advice_left(make):
    env = make()
    assert env.reset()[1]["expert"] == ("go to cabinet 1", "look for mug in cabinet 1")
    assert env.step("win")[4]["expert"] == ("", "")


def test_closing_gives_the_engine_back(make):
    env = make()
    env.close()
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"after close\(\)"):
        env.step("look")
    env.close()
    assert env.reset()[1]["steps"] == 0


def test_misuse_is_named(make):
    env = make()
    with pytest.raises(gymnasium.error.InvalidAction, match="not 3"):
        env.step(3)
    for kwargs, message in [
        ({"max_steps": 0}, "max_steps"),
        ({"memory": -1}, "memory"),
        ({"goal_reward": "double"}, "'double'"),
        ({"expert": "human"}, "'human'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(**kwargs)
    with pytest.raises(gymnasium.error.UnsupportedMode, match="'human'"):
        make(render_mode="human")


def test_render_is_the_last_text(make):
    env = make(render_mode="ansi")
    env.step("look")
    assert env.render() == "You did: look."
    assert make().render() is None
