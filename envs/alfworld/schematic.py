"""A schematic picture of what an agent has in front of it: signs and names, no simulation of a camera.

It lets a vision-language loop run on the text games anywhere; THOR's pictures are another matter. Signs, numbers and
states are drawn large enough to survive the way down to 84 x 84 pixels; names are for models that see all 300.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from envs.alfworld.glyphs import draw_glyph
from envs.alfworld.schematic_layout import Door, Grid, Section, Tile, arrange, thing_tile
from envs.alfworld.view import STATES
from envs.gym_cards.drawing import BLACK, SIZE, WHITE, Colour, canvas, font, pixels, write

_DOORS: dict[Door, Colour] = {
    Door.NONE: (70, 75, 85), Door.OPEN: (20, 110, 60), Door.CLOSED: (110, 60, 25), Door.ROOM: (60, 40, 100),
}  # fmt: skip
_PAPERS: dict[str, Colour] = {"hot": (255, 150, 130), "cold": (150, 205, 255), "lit": (255, 235, 80)}
_SPARKLE: Colour = (0, 160, 150)
_WOOD: Colour = (185, 130, 80)
_BAR: Colour = (200, 205, 220)
_SKIN: Colour = (240, 190, 150)
_EDGE: Colour = (170, 170, 170)
_GREY: Colour = (70, 75, 85)

_HAND_PX = 64


def draw(view: Mapping[str, Any]) -> np.ndarray:
    """The picture of a view (see `envs.alfworld.view.view`), uint8 [300, 300, 3].

    A header says which receptacle it is, and by its colour whether it is open (green), closed (brown) or cannot be
    closed (grey); the tiles below it are what lies there. Paper behind a thing tells hot (red), cold (blue) and lit
    (yellow); a clean thing has a frame and, where there is room, a sparkle. The bar at the bottom is the hand. In
    the middle of the room all receptacles are shown, those of one class as one tile with their number. What does not
    fit is counted.
    """
    picture = canvas(WHITE)
    grid, sections = arrange(view, SIZE - _HAND_PX)
    top = 0
    for section in sections:
        _draw_section(picture, section, grid, top)
        top += grid.height([section])
    states = {state: set(view[state]) for state in STATES}
    _draw_hand(picture, thing_tile(view["holding"], states) if view["holding"] else None)
    return pixels(picture)


def _draw_section(picture: Image.Image, section: Section, grid: Grid, top: int) -> None:
    colour = _DOORS[section.door]
    ImageDraw.Draw(picture).rectangle((0, top, SIZE, top + grid.header - 1), fill=colour)
    left, middle, size = 6, top + grid.header // 2, round(grid.header * 0.85)
    if section.kind:
        radius = grid.header // 2
        draw_glyph(picture, (left + radius, middle), radius, section.kind, furniture=True)
        left += 2 * radius + 6
        write(picture, (left, middle), section.number, size, WHITE, bold=1, anchor="lm")
        left += 10 + round(font(size).getlength(section.number))
    write(picture, (left, middle), section.title, _fitting(section.title, 20, SIZE - left - 4), WHITE, anchor="lm")
    top += grid.header
    if not section.tiles and grid.empty:
        _draw_empty(picture, section.door, top, grid.empty)
    for index, tile in enumerate(section.tiles):
        row, column = divmod(index, grid.columns)
        width = SIZE // grid.columns
        picture.paste(_tile_picture(tile, width, grid.tile, grid.named), (column * width, top + row * grid.tile))


def _draw_empty(picture: Image.Image, door: Door, top: int, height: int) -> None:
    """A shut door where one cannot look in, the word where there is nothing to see."""
    pen = ImageDraw.Draw(picture)
    if door is Door.CLOSED:
        pen.rectangle((0, top, SIZE, top + height - 1), fill=_WOOD)
        pen.rectangle((6, top + 5, SIZE - 7, top + height - 6), outline=_DOORS[door], width=4)
        pen.rectangle((SIZE - 40, top + height // 2 - 6, SIZE - 22, top + height // 2 + 6), fill=_DOORS[door])
    else:
        write(picture, (SIZE // 2, top + height // 2), "nothing", min(30, height - 6), _GREY, anchor="mm")


def _draw_hand(picture: Image.Image, tile: Tile | None) -> None:
    top = SIZE - _HAND_PX
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, top, SIZE, SIZE), fill=_BAR)
    pen.rectangle((0, top, SIZE, top + 2), fill=BLACK)
    pen.rounded_rectangle((12, top + 30, 44, top + 58), 8, fill=_SKIN, outline=BLACK)
    for finger in range(4):
        x = 12 + 8 * finger
        pen.rounded_rectangle((x, top + 10, x + 8, top + 36), 4, fill=_SKIN, outline=BLACK)
    pen.rectangle((13, top + 32, 43, top + 40), fill=_SKIN)
    if tile is None:
        write(picture, (SIZE // 2 + 30, top + 34), "empty hand", 20, _GREY, anchor="mm")
    else:
        picture.paste(_tile_picture(tile, SIZE - 56, _HAND_PX - 5, named=True), (54, top + 4))


@lru_cache(512)
def _tile_picture(tile: Tile, width: int, height: int, named: bool) -> Image.Image:
    """A tile on paper of its state; callers only paste it. The name stands below, in a wide tile at the right."""
    picture = Image.new("RGB", (width, height), WHITE)
    pen = ImageDraw.Draw(picture)
    clean, wide = "clean" in tile.states, width > 3 * height
    paper = next((_PAPERS[state] for state in tile.states if state in _PAPERS), WHITE)
    frame, thickness = (_SPARKLE, 4) if clean else (_EDGE, 1)
    pen.rectangle((1, 1, width - 2, height - 2), fill=paper, outline=frame, width=thickness)
    if not tile.kind:
        write(picture, (width // 2, height // 2), tile.number, height // 2, BLACK, anchor="mm")
        return picture
    name = height // 5 if named and not wide else 0
    radius = (height - name - 8) // 2
    right = 10 + 2 * radius
    draw_glyph(picture, (6 + radius, 4 + radius), radius, tile.kind, tile.furniture)
    if not named:  # the number may cover an edge of the sign
        pen.text((width - 4, height - 7), tile.number, BLACK, font(radius), "rs", stroke_width=2, stroke_fill=paper)
        return picture
    size = _fitting(tile.number, radius, width - right - 2)
    write(picture, (right, 4 + radius), tile.number, size, BLACK, bold=1, anchor="lm")
    sparkle = 13 if clean else 0
    if wide:
        left = right + radius + 8
        size = _fitting(tile.label, 18, width - left - 2 * sparkle - 6)
        write(picture, (left, 4 + radius), tile.label, size, BLACK, anchor="lm")
    else:
        size = _fitting(tile.label, name, width - 12)
        write(picture, (width // 2, height - name // 2 - 5), tile.label, size, BLACK, anchor="mm")
    if clean:
        _draw_sparkle(pen, (width - 15, 15), sparkle)
    return picture


def _fitting(text: str, size: int, width: int) -> int:
    """The largest font size up to `size` at which the text is at most `width` pixels wide, if any above 7 is."""
    while size > 7 and font(size).getlength(text) > width:
        size -= 1
    return size


def _draw_sparkle(pen: ImageDraw.ImageDraw, centre: tuple[int, int], radius: int) -> None:
    x, y = centre
    inner = radius * 0.3
    points = [
        (x, y - radius), (x + inner, y - inner), (x + radius, y), (x + inner, y + inner),
        (x, y + radius), (x - inner, y + inner), (x - radius, y), (x - inner, y - inner),
    ]  # fmt: skip
    pen.polygon(points, fill=_SPARKLE, outline=BLACK)
