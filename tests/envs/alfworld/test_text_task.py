import json

import gymnasium
import numpy as np
import pytest

from envs.alfworld.text_task import AlfworldTextTask

TASK = AlfworldTextTask()
ROOM = "You are in the middle of a room. Looking quickly around you, you see a cabinet 1, and a fridge 1."
COMMANDS = ["go to cabinet 1", "go to cabinet 10", "look"]


def info(**changes):
    start = {
        "task": "put a mug in cabinet",
        "task_type": "pick_and_place_simple",
        "game": "train/game",
        "room": ROOM,
        "observation": "-= Welcome =- ...",
        "steps": 0,
        "history": [],
        "admissible_commands": COMMANDS,
        "won": False,
        "expert": ("look", "look around"),
    }
    return {**start, **changes}


def test_first_prompt_has_task_room_commands_and_template():
    prompt = TASK.prompt(None, info())
    assert "Your task: put a mug in cabinet.\n" in prompt
    assert ROOM in prompt
    assert "Admissible commands: go to cabinet 1, go to cabinet 10, look.\n" in prompt
    assert list(json.loads(prompt[prompt.index("{") :])) == ["thoughts", "action"]
    assert "Welcome" not in prompt and "Now" not in prompt


def test_later_prompt_keeps_the_room_and_the_last_commands():
    history = [("look", "You see nothing."), ("go to cabinet 1", "It is closed.")]
    prompt = TASK.prompt(None, info(steps=2, history=history, observation="It is closed."))
    tail = "You gave: look\nAnswer: You see nothing.\nYou gave: go to cabinet 1\nNow: It is closed.\nAdmissible"
    assert ROOM in prompt and tail in prompt


def test_without_memory_only_the_present_is_told():
    prompt = TASK.prompt(None, info(steps=7, observation="Nothing happens."))
    assert "\nNow: Nothing happens.\n" in prompt and "You gave" not in prompt


def test_the_expert_is_kept_out_of_the_prompt():
    assert TASK.prompt(None, info()) == TASK.prompt(None, info(expert=("go to cabinet 1", "secret")))


def test_expert_text_is_exact():
    answer = TASK.expert(info(), np.random.default_rng(0))
    assert answer == '{"thoughts": "look around", "action": "look"}'


def test_noise_reaches_the_action_only():
    rng = np.random.default_rng(0)
    answers = [json.loads(TASK.expert(info(), rng, noise=1.0)) for _ in range(60)]
    assert {answer["thoughts"] for answer in answers} == {"look around"}
    assert {answer["action"] for answer in answers} == set(COMMANDS)


def test_an_expert_without_advice_says_why():
    with pytest.raises(ValueError, match="it is won"):
        TASK.expert(info(expert=("", ""), won=True), np.random.default_rng(0))
    with pytest.raises(ValueError, match="'train/game': the game is beyond it"):
        TASK.expert(info(expert=("", "")), np.random.default_rng(0))


def test_actions_are_the_games_own_commands():
    assert TASK.legal_actions(info()) == COMMANDS
    assert TASK.env_action(" Go to CABINET 10 ", info()) == "go to cabinet 10"
    with pytest.raises(gymnasium.error.InvalidAction, match="'go to cabinet 2' names no admissible command"):
        TASK.env_action("go to cabinet 2", info())


def test_success_is_the_completed_task_whatever_was_paid():
    assert TASK.success(-3.0, info(won=True)) is True
    assert TASK.success(49.0, info()) is False


def test_no_picture_and_a_task_name():
    assert TASK.image("text", info()) is None
    assert TASK.task(info()) == "pick_and_place_simple"
