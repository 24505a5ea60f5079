"""Frames as a tiny model's image processor makes them: 84 x 84, seen through a 3 x 3 grid of 28-pixel cells."""

import numpy as np
from PIL import Image


def glance(frame):
    """A frame in grey, float64 [84, 84] in 0..255."""
    small = Image.fromarray(frame).convert("L").resize((84, 84), Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.float64)


def cell_of(box):
    """The slices of the one grid cell in which a box (left, top, right, bottom in frame pixels) lies."""
    left, top, right, bottom = box
    column, row = left // 100, top // 100
    assert (right - 1) // 100 == column and (bottom - 1) // 100 == row, f"{box} crosses the border of a cell"
    return np.s_[28 * row : 28 * row + 28, 28 * column : 28 * column + 28]


def differing(one, two, contrast=128):
    """Pixels that differ by more than `contrast`."""
    return int((np.abs(one - two) > contrast).sum())
