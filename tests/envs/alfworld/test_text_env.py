"""The environment's own rules, against a scripted stand-in for the engine (not the real one)."""

from typing import Any

import gymnasium
import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.errors import EngineError
from envs.alfworld.text_env import AlfworldText
from envs.errors import ResetOptionsError
from tests.envs.alfworld.scripted_engine import COMMANDS, install


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Environments of three games on one scripted engine."""
    found = install(tmp_path, monkeypatch)

    def build(**kwargs: Any) -> AlfworldText:
        env = AlfworldText(**found, **kwargs)
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
    assert env._engine.sent == []
    assert env.step("I LOOK around")[4]["command"] == "look"


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


def test_what_every_state_tells(make):
    env = make()
    for command in ("look", "go to countertop 1", "look"):
        info = env.step(command)[4]
    assert (info["observation"], info["steps"]) == ("You did: look.", 3)
    assert info["room"].endswith("a countertop 1.") and info["task"] == "look at mug under the desklamp"
    assert "history" not in info and "memory" not in info, "what is remembered is not the environment's business"


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
    info["admissible_commands"].clear()
    assert env.step("look")[4]["admissible_commands"] == list(COMMANDS)


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
        ({"goal_reward": "double"}, "'double'"),
        ({"illegal_reward": 1.0}, "not 1.0"),
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
