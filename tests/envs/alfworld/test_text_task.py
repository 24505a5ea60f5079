import json

import numpy as np
import pytest

from envs import PromptSwitches
from envs.alfworld.text_task import LONGEST_COMMAND_CHARS, AlfworldTextTask
from envs.memory import Remembered

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


def test_later_prompt_tells_the_room_the_present_and_nothing_else():
    prompt = TASK.prompt(None, info(steps=7, observation="Nothing happens."))
    assert ROOM in prompt and "\nNow: Nothing happens.\nAdmissible" in prompt
    assert "Welcome" not in prompt and "You gave" not in prompt


def test_the_first_state_is_remembered_without_what_every_prompt_tells():
    assert TASK.recall(None, info()) == ""
    assert TASK.recall(None, info(steps=1, observation="It is closed.")) == "It is closed."


def test_memory_stands_before_the_task_and_the_room():
    memory = (Remembered("", "look", None), Remembered("You see nothing.", "go to cabinet 1", None))
    text = TASK.query(None, info(steps=2, observation="It is closed.", memory=memory)).text
    lines = text.splitlines()
    assert lines[:3] == [
        "Earlier in this episode:",
        "- You gave: look",
        "- You see nothing. You gave: go to cabinet 1",
    ]
    assert lines[5:7] == [ROOM, "Now: It is closed."]


def test_two_steps_are_remembered_by_default():
    assert AlfworldTextTask.default_memory == 2


def test_without_thoughts_the_command_alone_is_asked_for_and_given():
    task = AlfworldTextTask()
    task.switches = PromptSwitches(thoughts=False)
    prompt = task.prompt(None, info())
    assert json.loads(prompt[prompt.index("{") :]) == {"action": "<one admissible command, word by word>"}
    assert task.expert(info(), np.random.default_rng(0)) == '{"action": "look"}'


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


def test_text_that_names_no_command_is_sent_as_it_is():
    assert TASK.env_action("go to cabinet 2", info()) == "go to cabinet 2"
    assert TASK.fallback("fly\nto  the moon", info()) == "fly to the moon"
    assert TASK.fallback("", info()) == ""


def test_text_that_is_longer_than_any_command_is_sent_as_none():
    longest = "x" * LONGEST_COMMAND_CHARS
    assert TASK.fallback(longest, info()) == longest
    assert TASK.fallback(longest + "x", info()) == ""


def test_success_is_the_completed_task_whatever_was_paid():
    assert TASK.success(-3.0, info(won=True)) is True
    assert TASK.success(49.0, info()) is False


def test_no_picture_and_a_task_name():
    assert TASK.image("text", info()) is None
    assert TASK.task(info()) == "pick_and_place_simple"


def test_without_rules_the_state_and_its_commands_are_told():
    task = AlfworldTextTask()
    task.switches = PromptSwitches(rules=False)
    told = task.prompt(None, info(steps=3, observation="You open the cabinet 1."))
    assert told.splitlines() == [
        "Your task: put a mug in cabinet.",
        ROOM,
        "Now: You open the cabinet 1.",
        "Admissible commands: go to cabinet 1, go to cabinet 10, look.",
    ]


def test_classes_are_words_to_keep_whole():
    pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")
    words = TASK.whole_words()
    assert {"mug", "cabinet", "desklamp", "diningtable"} <= set(words)
    assert all(word.isalpha() and word.islower() for word in words) and len(set(words)) == len(words)


def test_mistakes_are_commands_of_the_game_that_are_not_admissible_here():
    commands = [*COMMANDS, "take mug 1 from cabinet 1", "open fridge 1"]
    rng = np.random.default_rng(0)
    answers = [json.loads(TASK.mistake(info(admissible_commands=commands), rng) or "") for _ in range(200)]
    given = {answer["action"] for answer in answers}
    assert not given & set(commands) and len(given) > 10
    assert all(TASK.env_action(command, info(admissible_commands=commands)) == command for command in given)
    assert {word for command in given for word in command.split() if word.isalpha()} <= {
        *("go", "to", "open", "close", "take", "from", "move", "clean", "heat", "cool", "use", "with"),
        *("mug", "cabinet", "fridge"),
    }


def test_half_of_the_mistakes_go_to_where_the_player_stands():
    state = info(room="You see a cabinet 1, and a fridge 1.", admissible_commands=["go to fridge 1", "open cabinet 1"])
    rng = np.random.default_rng(0)
    answers = [json.loads(TASK.mistake(state, rng) or "") for _ in range(200)]
    stays = [answer for answer in answers if answer["action"] == "go to cabinet 1"]
    assert 80 <= len(stays) <= 130 and not any(answer["action"] == "go to fridge 1" for answer in answers)
