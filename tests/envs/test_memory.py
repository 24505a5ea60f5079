import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

import envs
from envs import PromptSwitches, TaskAdapter
from envs.memory import EpisodeMemory

DOT = "docs.examples.dots:DotEnv"


class Walk(gymnasium.Env):
    """A walk in the plane, told in words, by an action that is no index; it goes on in one and the same info."""

    observation_space = gymnasium.spaces.Text(40)
    action_space = gymnasium.spaces.MultiDiscrete([3, 3])

    def reset(self, *, seed=None, options=None):
        self.info = {"at": [0, 0]}
        return self.tell(), self.info

    def step(self, action):
        self.info["at"][0] += int(action[0]) - 1
        self.info["at"][1] += int(action[1]) - 1
        return self.tell(), 0.0, False, False, self.info

    def tell(self):
        return "You are at\n{}, {}.".format(*self.info["at"])


class WalkTask(TaskAdapter):
    env_id = "test/Walk-v0"
    action_names = ("north", "east")

    def prompt(self, observation, info):
        return observation

    def image(self, observation, info):
        return np.full((2, 2, 3), 10 * info["at"][0] + info["at"][1], np.uint8)

    def env_action(self, name, info):
        return np.array([1, 2]) if name == "north" else np.array([2, 1])

    def expert(self, info, rng, noise=0.0):
        raise NotImplementedError


def walk(memory, *names, frames=False):
    task = WalkTask()
    task.switches = PromptSwitches(memory=memory, memory_frames=frames)
    env = EpisodeMemory(Walk(), task)
    observation, info = env.reset()
    for name in names:
        observation, _, _, _, info = env.step(task.env_action(name, info))
    return env, task, observation, info


def test_the_last_steps_are_remembered_oldest_first():
    names = ("north", "north", "east")
    expected = [("You are at 0, 0.", "north"), ("You are at 0, 1.", "north"), ("You are at 0, 2.", "east")]
    for memory in (1, 2, 3, 4):
        info = walk(memory, *names)[3]
        assert [step[:2] for step in info["memory"]] == expected[-memory:]
        assert [step.image for step in info["memory"]] == [None] * min(memory, 3)


def test_an_observation_in_words_is_told_before_the_present_one():
    _, task, observation, info = walk(2, "north", "east")
    assert task.query(observation, info).text.splitlines() == [
        "Earlier in this episode:",
        "- You are at 0, 0. You gave: north",
        "- You are at 0, 1. You gave: east",
        "You are at",
        "1, 1.",
    ]


def test_pictures_come_in_the_order_of_the_steps_the_present_one_last():
    _, task, observation, info = walk(2, "north", "east", "north", frames=True)
    query = task.query(observation, info)
    assert [image[0, 0, 0] for image in query.images] == [1, 11, 12]
    assert "The pictures before the last one belong to these steps" in query.text


def test_nothing_is_remembered_after_a_reset():
    env, task, _, _ = walk(3, "north", "east", frames=True)
    observation, info = env.reset()
    assert info["memory"] == ()
    assert task.query(observation, info).text == observation
    assert len(task.query(observation, info).images) == 1


def test_what_was_handed_out_stays_as_it_was():
    env, task, _, info = walk(2, "north", frames=True)
    before = copy.deepcopy(info["memory"])
    env.step(task.env_action("east", info))
    assert data_equivalence(info["memory"], before, exact=True)


def test_an_action_without_a_name_is_told_as_it_is():
    env, _, _, _ = walk(1)
    assert env.step(np.array([0, 0]))[4]["memory"][0].action == "[0 0]"


def test_free_text_is_quoted_on_one_line_and_in_part():
    env, _, _, _ = walk(1)
    env.unwrapped.step = lambda action: ("", 0.0, False, False, {})  # type: ignore[method-assign]
    assert env.step("fly\n to  the moon " + "x" * 500)[4]["memory"][0].action == ("fly to the moon " + "x" * 500)[:200]


@pytest.mark.parametrize(
    ("memory", "wrapped"), [(None, False), (0, False), (1, True), (3, True)], ids=["default", "none", "one", "three"]
)
def test_a_users_environment_is_remembered_without_any_code_for_it(memory, wrapped):
    env, task = envs.make(DOT, prompt=PromptSwitches(memory=memory))
    observation, info = env.reset(seed=0)
    assert ("memory" in info) == wrapped
    for name in ("left", "right", "left"):
        observation, _, _, _, info = env.step(task.env_action(name, info))
    told = [line for line in task.query(observation, info).text.splitlines() if line.startswith("- ")]
    assert told == [f"- You gave: {name}" for name in ("left", "right", "left")[3 - (memory or 0) :]]


def test_remembered_pictures_bear_the_marks_of_their_time():
    env, task = envs.make(DOT, prompt=PromptSwitches(memory=1, memory_frames=True, marks="envs.marks:grid"))
    first, info = env.reset(seed=0)
    seen = task.picture(first, info)
    observation, _, _, _, info = env.step(0)
    earlier, _ = task.query(observation, info).images
    assert seen is not None and (earlier == seen).all() and (earlier != first).any()
