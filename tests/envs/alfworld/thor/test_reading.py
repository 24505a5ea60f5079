"""Literal answers of the package's THOR backend, and what the policy reads of them."""

import numpy as np
import pytest

from envs.alfworld.thor.reading import read_commands, read_state, read_text, thor_commands
from envs.alfworld.thor.state import SimulatorError

PLACES = ["cabinet 1", "fridge 1", "microwave 1", "sinkbasin 1", "sinkbasin 2", "sofa 1"]


def test_move_becomes_put_on_the_way_out():
    assert thor_commands("move mug 1 to coffeetable 10", None) == ["put mug 1 in/on coffeetable 10"]
    for command in ("go to mug 1", "take mug 1 from desk 1", "heat mug 1 with microwave 1", "look"):
        assert thor_commands(command, None) == [command]


def test_an_open_door_is_shut_before_the_package_opens_it():
    heat = "heat mug 1 with microwave 1"
    assert thor_commands(heat, False) == ["close microwave 1", heat]
    assert thor_commands(heat, True) == [heat]
    assert thor_commands("take mug 1 from fridge 1", False) == ["take mug 1 from fridge 1"]


def test_put_becomes_move_on_the_way_in():
    assert read_commands(["put mug 1 in/on desk 2"], "desk 2", None, []) == ("move mug 1 to desk 2",)
    assert read_text("You put the mug 1 in/on the desk 2.", "desk 2") == "You move the mug 1 to the desk 2."


def test_what_is_listed_can_be_sent_and_comes_back():
    (command,) = read_commands(["move mug 1 to desk 2"], "desk 2", None, [])
    assert read_commands(thor_commands(command, None), "desk 2", None, []) == (command,)


def test_arrival_names_the_receptacle():
    told = "You arrive at loc 12. The fridge 1 is closed. "
    assert read_text(told, "fridge 1") == "You arrive at fridge 1. The fridge 1 is closed."


def test_the_list_is_sorted_and_each_command_stands_once():
    listed = ["look", "go to fridge 1", "inventory", "go to cabinet 1", "look"]
    assert read_commands(listed, "nothing", None, PLACES) == ("go to cabinet 1", "go to fridge 1", "inventory", "look")


@pytest.mark.parametrize(
    "command, here, closed",
    [
        ("take nothing from desk 1", "desk 1", None),
        ("use nothing", "desk 1", None),
        ("help", "nothing", None),  # THOR's parser does not know it
        ("go to sofa 1", "sofa 1", None),
        ("clean mug 1 with sinkbasin 2", "sinkbasin 1", None),
        ("open fridge 1", "fridge 1", False),
        ("close fridge 1", "fridge 1", True),
        ("take mug 1 from fridge 1", "fridge 1", True),
        ("move mug 1 to fridge 1", "fridge 1", True),
    ],
)
def test_what_must_fail_is_dropped(command, here, closed):
    assert read_commands([command], here, closed, PLACES) == ()


@pytest.mark.parametrize(
    "command, here, closed",
    [
        ("go to sofa 1", "fridge 1", True),
        ("clean mug 1 with sinkbasin 2", "sinkbasin 2", None),
        ("heat mug 1 with microwave 1", "microwave 1", True),  # opens the door by itself
        ("open fridge 1", "fridge 1", True),
        ("close fridge 1", "fridge 1", False),
        ("open fridge 1", "fridge 1", None),
        ("take mug 1 from fridge 1", "fridge 1", False),
        ("move mug 1 to desk 1", "desk 1", None),
        ("examine fridge 1", "fridge 1", True),
        ("use desklamp 1", "desk 1", None),
    ],
)
def test_what_can_work_stays(command, here, closed):
    assert read_commands([command], here, closed, PLACES) == (command,)


def test_names_that_the_package_garbles_are_restored():
    listed = ["go to sof1", "take spatul2 from sofa 1", "go to sof12"]
    names = ["sofa 1", "spatula 2", "mug 1"]
    assert read_commands(listed, "fridge 1", None, names) == (
        "go to sof12",
        "go to sofa 1",
        "take spatula 2 from sofa 1",
    )


def test_a_state_has_the_picture_in_rgb():
    frame = np.zeros((300, 300, 3), np.uint8)
    frame[..., 0] = 255  # blue comes first
    results = (
        "You arrive at loc 3. On the desk 1, you see nothing.",
        True,
        ["look", "look"],
        np.bool_(False),
        1 / 3,
        [],
    )
    state = read_state(results, frame, "desk 1", None, ["desk 1"])
    assert state.frame[0, 0].tolist() == [0, 0, 255] and state.frame.flags.c_contiguous
    assert (state.text, state.admissible) == ("You arrive at desk 1. On the desk 1, you see nothing.", ("look",))
    assert (state.won, state.fraction) == (False, 1 / 3) and type(state.won) is bool


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(SimulatorError, match=r"\[100, 300, 3\]"):
        read_state(("", False, [], False, 0.0, []), np.zeros((100, 300, 3), np.uint8), "nothing", None, [])
