from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from envs.alfworld.schematic import draw
from envs.alfworld.schematic_task import AlfworldSchematicTask
from envs.alfworld.view import view
from tests.envs.alfworld.worlds import at, holding, kitchen

COUNTER = at("loc 3")
STATES = {
    "middle": (),
    "closed": at("loc 2"),
    "open": (*at("loc 2"), "opened cabinet 10"),
    "open and empty": (*at("loc 2"), "opened cabinet 10", "-inreceptacle mug 2|cabinet 10"),
    "counter": COUNTER,
    "another mug": (*COUNTER, "-inreceptacle mug 1|countertop 1", "inreceptacle mug 2|countertop 1"),
    "holding": (*COUNTER, *holding("mug 1", "countertop 1")),
    "holding something else": (*COUNTER, *holding("apple 1", "countertop 1")),
    "holding something hot": (*COUNTER, *holding("apple 1", "countertop 1"), "ishot apple 1"),
    "holding something cold": (*COUNTER, *holding("apple 1", "countertop 1"), "iscool apple 1"),
    "holding something clean": (*COUNTER, *holding("apple 1", "countertop 1"), "isclean apple 1"),
    "holding something hot, clean": (*COUNTER, *holding("apple 1", "countertop 1"), "ishot apple 1", "isclean apple 1"),
    "lit": (*COUNTER, "istoggled desklamp 1"),
    "hot": (*COUNTER, "ishot apple 1"),
    "cold": (*COUNTER, "iscool apple 1"),
    "clean": (*COUNTER, "isclean mug 1"),
    "two places": at("loc 1"),
    "one of two open": (*at("loc 1"), "opened cabinet 1"),
    "the other open": (*at("loc 1"), "opened cabinet 2"),
}  # fmt: skip


def small(frame):
    """As a tiny model's image processor makes it."""
    return np.asarray(Image.fromarray(frame).resize((84, 84), Image.Resampling.BICUBIC), dtype=np.int16)


def test_a_picture_is_an_image():
    for changes in STATES.values():
        frame = draw(view(kitchen(*changes)))
        assert frame.shape == (300, 300, 3) and frame.dtype == np.uint8


def test_different_views_look_different_also_when_small():
    frames = {name: small(draw(view(kitchen(*changes)))) for name, changes in STATES.items()}
    for (one, first), (two, second) in combinations(frames.items(), 2):
        changed = (np.abs(first - second).max(axis=-1) > 60).sum()
        assert changed >= 12, (one, two, changed)


@pytest.mark.parametrize("place", ["loc start", "loc 1", "loc 2", "loc 3", "loc 6"])
def test_what_is_hidden_never_alters_the_picture(place):
    here = () if place == "loc start" else at(place)
    frame = draw(view(kitchen(*here)))
    moved = ("-inreceptacle mug 2|cabinet 10", "inreceptacle mug 2|cabinet 2")
    treated = ("ishot mug 2", "isclean mug 2", "opened microwave 1")
    for changes in (moved, treated, (*moved, *treated), ("-inreceptacle mug 2|cabinet 10",)):
        assert np.array_equal(draw(view(kitchen(*here, *changes))), frame)


def test_drawing_again_gives_the_same_picture():
    seen = view(kitchen(*STATES["one of two open"], "isclean mug 1"))
    first = draw(seen)
    draw(view(kitchen(*STATES["lit"])))
    assert np.array_equal(draw(seen), first)


@pytest.mark.parametrize("count", [0, 1, 20, 60, 300])
@pytest.mark.parametrize("places", [1, 2, 9])
def test_any_number_of_things_fits_above_the_hand(count, places):
    nothing = {"lit": [], "hot": [], "cold": [], "clean": [], "holding": "", "receptacles": [], "room": []}
    spoons = [f"spoon {n}" for n in range(count)]
    items = [{"name": f"drawer {n}", "openable": False, "closed": False, "things": spoons} for n in range(places)]
    frame, empty = draw({**nothing, "receptacles": items}), draw(nothing)
    assert np.array_equal(frame[-64:], empty[-64:])
    room = draw({**nothing, "room": [f"cabinet{n} {n}" for n in range(count)]})
    assert np.array_equal(room[-64:], empty[-64:])


def test_the_task_shows_the_picture_of_the_view():
    seen = view(kitchen(*COUNTER))
    image = AlfworldSchematicTask().image("text", {"view": seen})
    assert image is not None and np.array_equal(image, draw(seen))
