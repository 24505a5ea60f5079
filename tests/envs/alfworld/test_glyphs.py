import numpy as np
import pytest
from PIL import Image, ImageChops

from envs.alfworld.glyphs import CODES, COLOURS, SHAPES, draw_glyph, furniture_colour, glyph, ink

PIXELS_AT_84 = 14  # a tile's sign, after the way down from 300


def test_every_class_has_letters_of_its_own():
    assert len(set(CODES.values())) == len(CODES) > 100
    assert all(len(code) == 2 and code.isupper() for code in CODES.values())


def test_every_class_of_the_package_is_known():
    constants = pytest.importorskip("alfworld.gen.constants", reason="needs the extra croupier[alfworld]")
    assert {kind.lower() for kind in (*constants.OBJECTS, *constants.RECEPTACLES)} == set(CODES)


def test_colours_and_shapes_are_spread():
    signs = [glyph(kind) for kind in CODES]
    pairs = {(sign.colour, sign.shape) for sign in signs}
    assert len(pairs) == len(COLOURS) * len(SHAPES)  # every one is used before one occurs again
    assert max(sum((sign.colour, sign.shape) == pair for sign in signs) for pair in pairs) == 2


def test_an_unknown_class_has_a_sign_too():
    assert glyph("banana").code == "BA" and glyph("banana") == glyph("banana")
    assert glyph("banana") != glyph("basilisk")


def picture(kind, furniture=False):
    drawn = Image.new("RGB", (60, 60), (255, 255, 255))
    draw_glyph(drawn, (30, 30), 25, kind, furniture)
    return drawn.resize((PIXELS_AT_84, PIXELS_AT_84), Image.Resampling.BICUBIC)


def difference(one, two):
    return float(np.asarray(ImageChops.difference(one, two)).mean())


def test_signs_stay_apart_when_small():
    pictures = {kind: picture(kind) for kind in CODES}
    nearest = {
        kind: min(difference(one, two) for other, two in pictures.items() if other != kind)
        for kind, one in pictures.items()
    }
    assert {kind: distance for kind, distance in nearest.items() if distance < 4} == {}


def test_receptacles_look_unlike_things():
    assert min(difference(picture(kind), picture(kind, furniture=True)) for kind in CODES) > 4


def test_the_receptacles_of_a_room_have_different_colours():
    pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")
    from envs.alfworld.household import ROOMS

    for room, kinds in ROOMS.items():
        assert len({furniture_colour(kind.lower()) for kind in kinds}) == len(kinds), room


def test_letters_are_readable_on_every_colour():
    for colour in COLOURS:
        assert abs(sum(ink(colour)) - sum(colour)) > 200
