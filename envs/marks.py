"""Visual prompts: marks drawn on a picture before the policy sees it (`env.prompt.marks=envs.marks:grid`)."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

_CELLS = 3
_LINE = (255, 0, 255)


def grid(image: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """A grid of three by three cells with their letters, A to I, in the upper left corners.

    Args:
        image: uint8 [H, W, 3].
        info: of the state; not used.

    Returns:
        A marked copy, uint8 [H, W, 3].
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for row in range(_CELLS):
        for column in range(_CELLS):
            left, top = column * width // _CELLS, row * height // _CELLS
            draw.line((left, 0, left, height), fill=_LINE)
            draw.line((0, top, width, top), fill=_LINE)
            draw.text((left + 2, top + 1), "ABCDEFGHI"[row * _CELLS + column], fill=_LINE)
    return np.array(picture)
