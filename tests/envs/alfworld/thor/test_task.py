import numpy as np

from envs.alfworld.text_task import AlfworldTextTask
from envs.alfworld.thor.task import AlfworldThorTask
from tests.envs.alfworld.test_text_task import info

FRAME = np.zeros((300, 300, 3), np.uint8)


def test_the_words_are_those_of_the_text_games():
    state = info(steps=1, observation="You arrive at cabinet 1.")
    assert AlfworldThorTask().prompt(FRAME, state) == AlfworldTextTask().prompt(None, state)
    assert AlfworldThorTask().recall(FRAME, state) == "You arrive at cabinet 1."
    assert AlfworldThorTask().success(0.0, info(won=True))


def test_the_picture_is_the_observation():
    task = AlfworldThorTask()
    assert task.image(FRAME, info()) is FRAME
    assert task.query(FRAME, info()).images[0] is FRAME
