import pytest

from envs.alfworld.wording import split_intro

INTRO = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see a "
    "cabinet 1, and a fridge 1.\n\nYour task is to: put a hot apple in fridge."
)


def test_room_and_task_are_cut_out():
    room, task = split_intro(INTRO)
    assert room.startswith("You are in the middle of a room.") and room.endswith("and a fridge 1.")
    assert task == "put a hot apple in fridge"


def test_an_unusual_welcome_stays_with_the_room():
    assert split_intro("Hello.\nYour task is to: wait.") == ("Hello.", "wait")


def test_text_without_a_task_is_refused():
    with pytest.raises(ValueError, match="names no task"):
        split_intro("You open the fridge 1.")
