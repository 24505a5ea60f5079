"""A schematic picture of what an agent has in front of it: boxes and names, no simulation of a camera.

It lets a vision-language loop run on the text games anywhere; THOR's pictures are another matter.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from envs.gym_cards.drawing import BLACK, SIZE, WHITE, Colour, canvas, font, pixels, write

_GREY: Colour = (225, 225, 225)
_DARK: Colour = (90, 90, 90)
_LIT: Colour = (255, 214, 0)
_COLUMNS = 3
_HEADER_PX, _FOOTER_PX, _GAP_PX = 24, 34, 4
_LARGEST_TILE_PX, _SMALLEST_TILE_PX = 34, 14


def draw(view: Mapping[str, Any]) -> np.ndarray:
    """The picture of a view (see `envs.alfworld.view.view`), uint8 [300, 300, 3]."""
    picture = canvas(WHITE)
    sections = [(_title(item), item["things"]) for item in view["receptacles"]]
    if not sections:
        sections = [("in the middle of the room", view["room"])]
    _sections(picture, sections, set(view["lit"]))
    ImageDraw.Draw(picture).rectangle((0, SIZE - _FOOTER_PX, SIZE, SIZE), fill=_GREY)
    write(picture, (8, SIZE - 11), "in hand:", size=16, colour=BLACK)
    if view["holding"]:
        box = (80, SIZE - _FOOTER_PX + 4, SIZE - 8, SIZE - 4)
        _tile(picture, box, view["holding"], lit=False)
    return pixels(picture)


def _title(receptacle: Mapping[str, Any]) -> str:
    return f"{receptacle['name']} (closed)" if receptacle["closed"] else receptacle["name"]


def _sections(picture: Image.Image, sections: Sequence[tuple[str, Sequence[str]]], lit: set[str]) -> None:
    """One header with tiles below it for each section; tiles shrink until all fit, and the rest is counted."""
    space = SIZE - _FOOTER_PX - len(sections) * (_HEADER_PX + _GAP_PX)
    rows = sum(-(-len(things) // _COLUMNS) for _, things in sections)
    height = min(_LARGEST_TILE_PX, max(_SMALLEST_TILE_PX, space // max(rows, 1)))
    top, bottom = 0, SIZE - _FOOTER_PX
    for title, things in sections:
        if top + _HEADER_PX > bottom:
            return
        fitting = max(0, (bottom - top - _HEADER_PX) // height) * _COLUMNS
        hidden = len(things) - fitting
        title = f"{title} (+{hidden} more)" if hidden > 0 else title
        ImageDraw.Draw(picture).rectangle((0, top, SIZE, top + _HEADER_PX), fill=_DARK)
        write(picture, (8, top + _HEADER_PX - 7), title, size=16, colour=WHITE)
        top += _HEADER_PX
        for index, thing in enumerate(things[:fitting]):
            row, column = divmod(index, _COLUMNS)
            left = column * SIZE // _COLUMNS
            box = (left + 2, top + row * height + 2, left + SIZE // _COLUMNS - 3, top + (row + 1) * height - 1)
            _tile(picture, box, thing, thing in lit)
        top += -(-min(len(things), fitting) // _COLUMNS) * height + _GAP_PX


def _tile(picture: Image.Image, box: tuple[int, int, int, int], name: str, lit: bool) -> None:
    """A box with a name; the colour belongs to the class, a thick yellow frame means that it is on."""
    left, top, right, bottom = box
    frame, width = (_LIT, 3) if lit else (_DARK, 1)
    ImageDraw.Draw(picture).rectangle(box, fill=_colour(name.rpartition(" ")[0]), outline=frame, width=width)
    size = min(14, bottom - top - 2)
    while size > 6 and font(size).getlength(name) > right - left - 4:
        size -= 1
    write(picture, ((left + right) // 2, (top + bottom) // 2), name, size=size, colour=BLACK, anchor="mm")


def _colour(kind: str) -> Colour:
    """A light colour, the same for a class in every process."""
    red, green, blue = hashlib.sha256(kind.encode()).digest()[:3]
    return 170 + red // 4, 170 + green // 4, 170 + blue // 4
