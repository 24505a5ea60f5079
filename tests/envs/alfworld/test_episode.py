from pathlib import Path

import gymnasium
import pytest

from envs.alfworld.episode import Episode, GoalReward, Moment
from envs.alfworld.game_files import GameFile
from envs.alfworld.goal import Goal

GAME = GameFile("train/a", Path("/games/train/a/game.tw-pddl"), Goal("look_at_obj_in_light", "mug", "", "desklamp"))
ROOM = "You are in the middle of a room. Looking quickly around you, you see a desk 1."
COMMANDS = ("go to desk 1", "go to desk 10", "look")
FIRST = Moment(f"-= Welcome =-\n\n{ROOM}\n\nYour task is to: look at mug under the desklamp.", COMMANDS, False, 0.0)


def moment(fraction, text="You did it.", commands=COMMANDS):
    return Moment(text, commands, fraction == 1.0, fraction)


def begun(max_steps=50, goal_reward: GoalReward = "difference", illegal_reward=-1.0):
    episode = Episode(max_steps, goal_reward, illegal_reward)
    episode.begin(GAME, FIRST)
    return episode


@pytest.mark.parametrize(
    "goal_reward, paid",
    [
        ("difference", [0.5, 0.0, -0.5, -1.0, 51.0]),
        ("level", [0.5, 0.5, 0.0, -1.0, 51.0]),
        ("off", [0.0, 0.0, 0.0, -1.0, 50.0]),
    ],
)
def test_what_is_paid(goal_reward, paid):
    episode = begun(goal_reward=goal_reward)
    rewards = [episode.advance("look", moment(fraction))[0] for fraction in (0.5, 0.5, 0.0)]
    rewards.append(episode.advance(None, episode.now)[0])
    rewards.append(episode.advance("look", moment(1.0))[0])
    assert rewards == paid


def test_what_names_no_command_can_cost_more_or_nothing():
    assert begun(illegal_reward=-5).advance(None, FIRST)[0] == -5
    assert begun(illegal_reward=0).advance(None, FIRST)[0] == 0
    assert begun(illegal_reward=-5).advance("look", moment(0.5))[0] == 0.5
    for value in (0.1, float("nan"), float("-inf")):
        with pytest.raises(ValueError, match=f"at most 0, not {value}"):
            begun(illegal_reward=value)


def test_the_limit_is_exact_and_a_win_comes_before_it():
    episode = begun(max_steps=2)
    assert [episode.advance(None, FIRST)[1:] for _ in range(2)] == [(False, False), (False, True)]
    assert begun(max_steps=1).advance("look", moment(1.0))[1:] == (True, False)


def test_an_action_is_the_one_command_that_it_names():
    episode = begun()
    assert episode.read("Go to DESK 10 now") == "go to desk 10"
    assert episode.read("fly") is None
    assert episode.read("look, then go to desk 1") is None
    with pytest.raises(gymnasium.error.InvalidAction, match="not 3"):
        episode.read(3)


def test_why_a_step_is_refused():
    episode = Episode(1, "off")
    with pytest.raises(gymnasium.error.ResetNeeded, match="before the first reset"):
        episode.read("look")
    episode.begin(GAME, FIRST)
    episode.advance("look", FIRST)
    with pytest.raises(gymnasium.error.ResetNeeded, match="after the end of the episode"):
        episode.read("look")
    episode.begin(GAME, FIRST)
    assert episode.read("look") == "look"
    episode.forbid("after close()")
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"after close\(\): call reset"):
        episode.read("look")


def test_info_tells_the_state():
    episode = begun()
    start = {
        "task": "look at mug under the desklamp",
        "task_type": "look_at_obj_in_light",
        "game": "train/a",
        "extra.gamefile": "/games/train/a/game.tw-pddl",
        "room": ROOM,
        "observation": FIRST.text,
        "steps": 0,
        "admissible_commands": list(COMMANDS),
        "won": False,
        "goal_condition_success_rate": 0.0,
        "command": "",
        "legal": True,
    }
    assert episode.info() == start
    episode.advance("look", moment(0.5, "You see it.", ("look",)))
    changed = {
        "observation": "You see it.",
        "steps": 1,
        "admissible_commands": ["look"],
        "goal_condition_success_rate": 0.5,
        "command": "look",
    }
    assert episode.info() == {**start, **changed}
    episode.advance(None, episode.now)
    illegal = {"observation": "Nothing happens.", "steps": 2, "command": "", "legal": False}
    assert episode.info() == {**start, **changed, **illegal}
    episode.info()["admissible_commands"].clear()
    assert episode.info()["admissible_commands"] == ["look"]


@pytest.mark.parametrize("arguments, message", [((0, "off"), "max_steps"), ((5, "double"), "'double'")])
def test_rules_out_of_range_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Episode(*arguments)
