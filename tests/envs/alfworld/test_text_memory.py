"""Text games through `envs.make`: what is told of the past, and what bad text costs; the engine is a fake."""

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

import envs
from envs import PromptSwitches
from tests.envs.alfworld.scripted_engine import install

ROOM = "You are in the middle of a room. You see a countertop 1."


@pytest.fixture
def make(tmp_path, monkeypatch):
    found = install(tmp_path, monkeypatch)
    return lambda env_id="alfworld/Text-v0", **switches: envs.make(
        env_id, prompt=PromptSwitches(**switches), max_steps=9, **found
    )


def told(env, task, commands):
    """The lines of the prompt after these commands that tell of the past, and the whole prompt."""
    observation, info = env.reset(seed=0)
    for command in commands:
        observation, _, _, _, info = env.step(task.env_action(command, info))
    text = task.query(observation, info).text
    return [line for line in text.splitlines() if line.startswith("- ")], text


COMMANDS = ("look", "go to cabinet 1", "fly to the moon", "look")


@pytest.mark.parametrize("memory", [None, 0, 1, 2, 3, 9])
def test_the_last_pairs_are_told(make, memory):
    env, task = make(memory=memory)
    lines, text = told(env, task, COMMANDS)
    pairs = [
        "- You gave: look",
        "- You did: look. You gave: go to cabinet 1",
        "- You did: go to cabinet 1. You gave: fly to the moon",
        "- Nothing happens. You gave: look",
    ]
    count = 2 if memory is None else memory
    assert lines == pairs[max(0, len(pairs) - count) :]
    assert "Now: You did: look." in text
    assert ROOM in text, "the list of receptacles is told at every step, whatever is remembered"


def test_nothing_is_remembered_of_the_episode_before(make):
    env, task = make()
    told(env, task, COMMANDS)
    assert told(env, task, ()) == ([], task.prompt(*env.reset(seed=0)))


def test_schematic_pictures_are_remembered_on_demand(make):
    env, task = make("alfworld/Schematic-v0", memory=2, memory_frames=True)
    observation, info = env.reset(seed=0)
    for count, command in enumerate(("look", "look", "look")):
        assert len(task.query(observation, info).images) == 1 + min(count, 2)
        observation, _, _, _, info = env.step(command)
    without, task = make("alfworld/Schematic-v0", text_only=True)
    assert task.query(*without.reset(seed=0)).images == ()


@pytest.mark.parametrize("text", ["fly to the moon", "look or win", "go to cabinet 2", "", "\u2660" * 150, "x" * 999])
def test_text_that_names_no_command_costs_one(make, text):
    env, task = make()
    _, info = env.reset(seed=0)
    sent = task.env_action(task.fallback(text, info), info)
    observation, reward, *_, info = env.step(sent)
    assert (observation, reward, info["legal"]) == ("Nothing happens.", -1.0, False)
    assert info["memory"][-1].action == (text if len(text) <= 200 else "")
