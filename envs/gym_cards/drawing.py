"""Drawing of the gym_cards pictures: canvas and text, in a fixed layout, from Pillow alone.

The typeface is the Aileron that Pillow carries inside its own wheel (CC0, ASCII only), so no font file has to
be found on any machine. It comes in one weight; an outline of the same colour makes it bold.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

SIZE = 300
"""Width and height of every gym_cards picture, in pixels."""

WHITE = (255, 255, 255)
BLACK = (0, 0, 0)

Colour = tuple[int, int, int]


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The typeface at `size` pixels per em.

    Raises:
        RuntimeError: this Pillow was built without FreeType.
    """
    if not features.check("freetype2"):
        raise RuntimeError("Pillow lacks FreeType and cannot draw text; install a Pillow wheel from PyPI")
    typeface = ImageFont.load_default(size)
    assert isinstance(typeface, ImageFont.FreeTypeFont)  # holds whenever a size is given
    return typeface


def canvas(colour: Colour) -> Image.Image:
    """An empty picture of one colour."""
    return Image.new("RGB", (SIZE, SIZE), colour)


def write(
    picture: Image.Image,
    position: tuple[int, int],
    text: str,
    size: int,
    colour: Colour,
    bold: int = 0,
    anchor: str = "ls",
) -> None:
    """Write `text` onto the picture in place.

    Args:
        picture: an RGB picture.
        position: (x, y) in pixels of the point that `anchor` names.
        text: one line of printable ASCII.
        size: pixels per em.
        colour: of letters and outline.
        bold: width of the outline in pixels; 3 % of `size` looks like a bold cut.
        anchor: Pillow's two-letter anchor; "ls" is the left end of the baseline, "ms" its middle.
    """
    ImageDraw.Draw(picture).text(position, text, colour, font(size), anchor, stroke_width=bold, stroke_fill=colour)


def pixels(picture: Image.Image) -> np.ndarray:
    """The picture as a new uint8 array [300, 300, 3]."""
    return np.array(picture, dtype=np.uint8)
