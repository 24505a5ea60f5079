"""Suit marks as shapes, because the typeface at hand has no letters for them."""

from PIL import ImageDraw

from envs.gym_cards.drawing import BLACK, Colour

RED = (196, 18, 48)
COLOURS: dict[str, Colour] = {"H": RED, "D": RED, "S": BLACK, "C": BLACK}

Point = tuple[float, float]

# In the unit square, y downwards: polygons, and circles as (centre x, centre y, radius).
_STEM = ((0.5, 0.5), (0.68, 1.0), (0.32, 1.0))
_POLYGONS: dict[str, tuple[tuple[Point, ...], ...]] = {
    "H": (((0.04, 0.42), (0.5, 0.3), (0.96, 0.42), (0.5, 1.0)),),
    "D": (((0.5, 0.0), (0.88, 0.5), (0.5, 1.0), (0.12, 0.5)),),
    "S": (((0.04, 0.5), (0.5, 0.0), (0.96, 0.5), (0.5, 0.62)), _STEM),
    "C": (_STEM, ((0.5, 0.24), (0.76, 0.62), (0.24, 0.62))),
}
_CIRCLES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "H": ((0.26, 0.28, 0.26), (0.74, 0.28, 0.26)),
    "D": (),
    "S": ((0.26, 0.6, 0.25), (0.74, 0.6, 0.25)),
    "C": ((0.5, 0.24, 0.24), (0.24, 0.62, 0.24), (0.76, 0.62, 0.24)),
}


def mark(draw: ImageDraw.ImageDraw, suit: str, centre: Point, size: float) -> None:
    """Draw a suit in place, within a square of `size` pixels around `centre`."""
    left, top = centre[0] - size / 2, centre[1] - size / 2
    colour = COLOURS[suit]
    for polygon in _POLYGONS[suit]:
        draw.polygon([(left + x * size, top + y * size) for x, y in polygon], fill=colour)
    for x, y, radius in _CIRCLES[suit]:
        near = (left + (x - radius) * size, top + (y - radius) * size)
        far = (left + (x + radius) * size, top + (y + radius) * size)
        draw.ellipse((*near, *far), fill=colour)
