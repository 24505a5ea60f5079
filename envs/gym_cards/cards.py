"""The card table: felt, cards with one large rank each, and labels.

A model that sees the picture as 84 x 84 in image tokens of 28 x 28 looks through a 3 x 3 grid of 100-pixel
cells. Cards stand where the original put them, across those cells; their ranks are moved within the card so
that each lies in one cell.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw

from envs.gym_cards.drawing import SIZE, WHITE, Colour, font, write
from envs.gym_cards.suits import COLOURS, mark

FELT: Colour = (53, 101, 77)

_FINE = 4  # cards are drawn so many times larger and then reduced, for smooth edges
_EDGE: Colour = (150, 150, 150)
_BACK: Colour = (38, 70, 140)
_BACK_LINES: Colour = (200, 212, 236)


@dataclass(frozen=True)
class Place:
    """Where a card lies, in pixels of the picture."""

    x: int
    y: int
    width: int
    height: int
    rank: tuple[int, int, int, int]
    """Left, top, right and bottom of the box that the rank fills."""
    suit: tuple[int, int, int]
    """Centre x, centre y and size of the suit mark."""


def table() -> np.ndarray:
    """A new picture of bare felt, uint8 [300, 300, 3]."""
    return _felt().copy()


def lay(picture: np.ndarray, place: Place, code: str) -> None:
    """Put the card `code`, such as "H4", onto the picture, face up."""
    paste(picture, place.x, place.y, _face(place, code))


def lay_back(picture: np.ndarray, place: Place) -> None:
    """Put a card onto the picture, face down."""
    paste(picture, place.x, place.y, _back(place))


def put_label(picture: np.ndarray, x: int, y: int, text: str, size: int) -> None:
    """Write a white word onto the felt.

    Args:
        picture: uint8 [300, 300, 3], changed in place.
        x: left end of the word in pixels.
        y: top of the word in pixels; nothing of it lies below `y + size`.
        text: printable ASCII.
        size: of the letters, in pixels per em.
    """
    paste(picture, x, y, _label(text, size))


def paste(picture: np.ndarray, x: int, y: int, sprite: np.ndarray) -> None:
    """Put a sprite, uint8 [height, width, 3], onto the picture with its upper left corner at (x, y)."""
    height, width = sprite.shape[:2]
    picture[y : y + height, x : x + width] = sprite


@cache
def _felt() -> np.ndarray:
    return np.full((SIZE, SIZE, 3), FELT, np.uint8)


@lru_cache(maxsize=2048)
def _face(place: Place, code: str) -> np.ndarray:
    """A card, uint8 [height, width, 3], on felt."""
    suit, rank = code[0], code[1].replace("T", "10")
    card, draw = _blank(place)
    centre_x, centre_y, size = place.suit
    mark(draw, suit, ((centre_x - place.x) * _FINE, (centre_y - place.y) * _FINE), size * _FINE)
    left, top, right, bottom = place.rank
    letters = _letters(rank, (right - left) * _FINE, (bottom - top) * _FINE)
    middle = ((left + right) * _FINE - letters.width) // 2
    card.paste(COLOURS[suit], (middle - place.x * _FINE, (top - place.y) * _FINE), letters)
    return np.array(card.reduce(_FINE))


@cache
def _back(place: Place) -> np.ndarray:
    """A card from behind, uint8 [height, width, 3], on felt."""
    card, draw = _blank(place)
    rim, step = 5 * _FINE, 8 * _FINE
    inner = Image.new("RGB", (card.width - 2 * rim, card.height - 2 * rim), _BACK)
    lattice = ImageDraw.Draw(inner)
    for start in range(-inner.height, inner.width, step):
        lattice.line((start, 0, start + inner.height, inner.height), _BACK_LINES, _FINE)
        lattice.line((start, inner.height, start + inner.height, 0), _BACK_LINES, _FINE)
    card.paste(inner, (rim, rim))
    return np.array(card.reduce(_FINE))


def _blank(place: Place) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A card without anything on it, `_FINE` times too large."""
    size = (place.width * _FINE, place.height * _FINE)
    card = Image.new("RGB", size, FELT)
    draw = ImageDraw.Draw(card)
    corner = min(6, place.width // 8) * _FINE
    draw.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), corner, WHITE, _EDGE, _FINE)
    return card, draw


@cache
def _letters(text: str, width: int, height: int) -> Image.Image:
    """A rank as a mask of exactly `height` pixels and at most `width`, squeezed sideways if it must be."""
    size = 2 * height
    mask = Image.new("L", (3 * size, 2 * size))
    draw = ImageDraw.Draw(mask)
    draw.text((size, size), text, 255, font(size), stroke_width=size // 40, anchor="lm")
    ink = mask.crop(mask.getbbox())
    natural = round(ink.width * height / ink.height)
    return ink.resize((min(width, natural), height), Image.Resampling.LANCZOS)


@cache
def _label(text: str, size: int) -> np.ndarray:
    """A word on felt, uint8 [size, width, 3]; drawn twice too large, for an outline of half a pixel."""
    picture = Image.new("RGB", (round(font(2 * size).getlength(text)) + 4, 2 * size), FELT)
    write(picture, (2, size * 39 // 25), text, 2 * size, WHITE, bold=1)
    return np.array(picture.reduce(2))
