"""A formula as it is seen on the table: white tokens in large letters, in as many lines as it takes."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from envs.gym_cards.cards import FELT, paste
from envs.gym_cards.drawing import WHITE, font, write
from envs.gym_cards.formula import BLANK, Token

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the picture."""

_SMALLEST = 10  # pixels per em; 22 tokens, more than any formula has, fit any of our boxes well before


def put_formula(picture: np.ndarray, box: Box, formula: Sequence[Token], size: int) -> None:
    """Write a formula into a box, a space between any two tokens; a blank is a wider gap and nothing else.

    Letters are `size` pixels per em, or as much smaller as it takes to get all lines into the box.

    Args:
        picture: uint8 [300, 300, 3], changed in place.
        box: what may be written on.
        formula: its tokens.
        size: of the letters at most.
    """
    left, top, right, bottom = box
    texts = tuple(map(str, formula))
    while True:
        lines = _lines(texts, right - left, size)
        if len(lines) * _pitch(size) <= bottom - top or size <= _SMALLEST:
            break
        size -= 2
    for row, line in enumerate(lines):
        for x, text in line:
            paste(picture, left + x, top + row * _pitch(size), _sprite(text, size))


def _pitch(size: int) -> int:
    """From one line to the next; brackets reach from 0.8 em above the baseline to 0.2 em below."""
    return size * 21 // 20


def _lines(texts: Sequence[str], width: int, size: int) -> list[list[tuple[int, str]]]:
    """The tokens of each line and how far right they stand; a line is broken between tokens only."""
    space = round(font(size).getlength(" "))
    lines: list[list[tuple[int, str]]] = [[]]
    x = 0
    for text in texts:
        token_width = space if text == BLANK else _sprite(text, size).shape[1]
        if x + token_width > width:
            lines.append([])
            x = 0
        if text != BLANK:
            lines[-1].append((x, text))
        x += token_width + space
    return lines


@cache
def _sprite(text: str, size: int) -> np.ndarray:
    """One token on felt, uint8 [pitch, width, 3]."""
    bold, baseline, letters = max(1, size // 24), size * 4 // 5, size
    if text == "*":  # the typeface's own is too small to be told from a dot
        letters, baseline = size * 8 // 5, size * 9 // 10
    picture = Image.new("RGB", (round(font(letters).getlength(text)) + 2 * bold, _pitch(size)), FELT)
    write(picture, (bold, baseline), text, letters, WHITE, bold)
    return np.array(picture)
