import numpy as np
import pytest

from envs.alfworld.schematic import draw
from envs.alfworld.schematic_task import AlfworldSchematicTask
from envs.alfworld.view import view
from tests.envs.alfworld.worlds import at, holding, kitchen


def test_in_the_middle_of_the_room_all_receptacles_are_seen():
    seen = view(kitchen())
    assert seen["room"] == kitchen().receptacles() and seen["receptacles"] == []


def test_closed_receptacles_hide_what_is_inside():
    assert view(kitchen(*at("loc 2")))["receptacles"] == [{"name": "cabinet 10", "closed": True, "things": []}]
    opened = view(kitchen(*at("loc 2"), "opened cabinet 10"))
    assert opened["receptacles"] == [{"name": "cabinet 10", "closed": False, "things": ["mug 2"]}]
    assert opened["room"] == []


def test_all_receptacles_at_one_place_are_in_reach():
    assert [item["name"] for item in view(kitchen(*at("loc 1")))["receptacles"]] == ["cabinet 1", "cabinet 2"]


def test_hand_and_light_are_seen():
    seen = view(kitchen(*at("loc 3"), *holding("mug 1", "countertop 1"), "istoggled desklamp 1"))
    assert seen["holding"] == "mug 1" and seen["lit"] == ["desklamp 1"]
    assert view(kitchen("istoggled desklamp 1"))["lit"] == []  # elsewhere


STATES = {
    "middle": (),
    "closed": at("loc 2"),
    "open": (*at("loc 2"), "opened cabinet 10"),
    "counter": at("loc 3"),
    "holding": (*at("loc 3"), *holding("mug 1", "countertop 1")),
    "lit": (*at("loc 3"), "istoggled desklamp 1"),
    "two places": at("loc 1"),
}


def test_different_views_give_different_pictures():
    frames = [draw(view(kitchen(*changes))) for changes in STATES.values()]
    assert all(frame.shape == (300, 300, 3) and frame.dtype == np.uint8 for frame in frames)
    assert len({frame.tobytes() for frame in frames}) == len(frames)


def test_a_picture_depends_on_the_view_alone():
    assert np.array_equal(draw(view(kitchen())), draw(view(kitchen("isclean mug 1"))))


@pytest.mark.parametrize("count", [0, 1, 20, 60, 300])
def test_any_number_of_things_fits(count):
    items = [{"name": f"drawer {n}", "closed": False, "things": [f"spoon {k}" for k in range(count)]} for n in (1, 2)]
    frame = draw({"holding": "", "receptacles": items, "lit": [], "room": []})
    assert np.array_equal(frame[-5, 200:], np.full((100, 3), 225, np.uint8))  # the hand's bar stays free


def test_the_task_shows_the_picture_of_the_view():
    seen = view(kitchen(*at("loc 3")))
    image = AlfworldSchematicTask().image("text", {"view": seen})
    assert image is not None and np.array_equal(image, draw(seen))
