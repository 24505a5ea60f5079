"""One sign for every household class: a colour, a shape and two letters, which stay apart on 84 x 84 pixels.

Things have seven shapes and receptacles a square, so that the two kinds are told apart without reading.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from math import cos, pi, sin

from PIL import Image, ImageDraw

from envs.gym_cards.drawing import BLACK, WHITE, Colour, write

# Two letters that no other class has, for all classes of ALFWorld.
_CODES = """
alarmclock:AC apple:AP armchair:AR baseballbat:BB basketball:BA bathtub:BT bathtubbasin:BH bed:BE blinds:BL book:BO
boots:BS bowl:BW box:BX bread:BR butterknife:BK cabinet:CA candle:CN cart:CR cd:CD cellphone:CP chair:CH cloth:CL
coffeemachine:CM coffeetable:CF countertop:CT creditcard:CC cup:CU curtains:CS desk:DK desklamp:DL diningtable:DT
dishsponge:DS drawer:DR dresser:DE egg:EG floorlamp:FL footstool:FO fork:FK fridge:FR garbagecan:GC glassbottle:GL
handtowel:HT handtowelholder:HA houseplant:HP kettle:KE keychain:KC knife:KN ladle:LA laptop:LP laundryhamper:LH
laundryhamperlid:LN lettuce:LE lightswitch:LS microwave:MW mirror:MI mug:MU newspaper:NE ottoman:OT painting:PN
paintinghanger:PH pan:PA papertowel:PP papertowelroll:PR pen:PE pencil:PC peppershaker:PS pillow:PI plate:PL
plunger:PG poster:PB pot:PT potato:PO remotecontrol:RC safe:SA saltshaker:SS scrubbrush:SC shelf:SH showerdoor:SD
showerglass:SG sidetable:ST sink:SI sinkbasin:SB soapbar:SO soapbottle:SP sofa:SF spatula:SL spoon:SN spraybottle:SR
statue:SU stoveburner:SV stoveknob:SK teddybear:TB television:TE tennisracket:TR tissuebox:TI toaster:TS toilet:TL
toiletpaper:TP toiletpaperhanger:TT toiletpaperroll:TA tomato:TO towel:TW towelholder:TH tvstand:TV vase:VA watch:WA
wateringcan:WC window:WI winebottle:WB
"""
CODES: dict[str, str] = dict((kind, code) for kind, _, code in (pair.partition(":") for pair in _CODES.split()))

COLOURS: tuple[Colour, ...] = (
    (214, 39, 40), (31, 119, 180), (44, 140, 44), (148, 80, 200), (255, 127, 14), (23, 170, 190), (227, 100, 180),
    (130, 75, 60), (110, 110, 110), (190, 190, 30), (20, 50, 110), (0, 90, 70), (120, 0, 60), (90, 200, 120),
)  # fmt: skip

# Squares differ by colour only: numbers of colours such that no two of a room's receptacles share one.
_FURNITURE = {
    "cabinet": 0, "fridge": 1, "drawer": 2, "microwave": 3, "countertop": 4, "sinkbasin": 5, "shelf": 6,
    "diningtable": 7, "garbagecan": 8, "stoveburner": 9, "coffeemachine": 10, "toaster": 11, "sidetable": 12,
    "safe": 13, "armchair": 1, "bed": 3, "sofa": 4, "desk": 5, "tvstand": 6, "bathtubbasin": 7, "coffeetable": 9,
    "dresser": 10, "laundryhamper": 11, "toilet": 12, "towelholder": 13, "toiletpaperhanger": 1,
    "handtowelholder": 3, "cart": 9, "ottoman": 2,
}  # fmt: skip

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Glyph:
    """How a class is drawn."""

    code: str
    colour: Colour
    shape: int
    """Index into `SHAPES`."""


def _polygon(corners: int, turn: float = 0.0) -> Points:
    """Corners on the unit circle; `turn` in units of the angle between two of them, 0 puts one on top."""
    angles = [2 * pi * (corner + turn) / corners - pi / 2 for corner in range(corners)]
    return [(cos(angle), sin(angle)) for angle in angles]


SHAPES: tuple[Points, ...] = (
    _polygon(40),
    [(-0.6, -0.85), (0.6, -0.85), (1.0, 0.8), (-1.0, 0.8)],
    _polygon(4),
    _polygon(6, 0.5),
    [(0.0, -1.05), (0.9, -0.3), (0.9, 0.95), (-0.9, 0.95), (-0.9, -0.3)],
    [(-0.9, -0.95), (0.9, -0.95), (0.9, 0.3), (0.0, 1.05), (-0.9, 0.3)],
    [(-1.0, -0.7), (1.0, -0.7), (0.6, 0.85), (-0.6, 0.85)],
)
"""Outlines of things around the origin, about one unit wide to each side: disc, bell, diamond, hexagon, house,
shield, bucket."""

_SQUARE: Points = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]


@cache
def glyph(kind: str) -> Glyph:
    """The sign of a class; a class that ALFWorld does not have gets one that depends on its name alone."""
    number = sorted(CODES).index(kind) if kind in CODES else int.from_bytes(hashlib.sha256(kind.encode()).digest()[:4])
    # The shape moves on once per round of colours: all pairs are used before one occurs again.
    rounds, colour = divmod(number, len(COLOURS))
    return Glyph(CODES.get(kind, kind[:2].upper()), COLOURS[colour], (colour + rounds) % len(SHAPES))


def furniture_colour(kind: str) -> Colour:
    """The colour of a receptacle class."""
    return COLOURS[_FURNITURE[kind]] if kind in _FURNITURE else glyph(kind).colour


def draw_glyph(picture: Image.Image, centre: tuple[int, int], radius: int, kind: str, furniture: bool) -> None:
    """Draw the sign of a class in place, at most `2 * radius` pixels wide; `furniture` are receptacles."""
    sign = glyph(kind)
    outline, colour = SHAPES[sign.shape], sign.colour
    if furniture:
        outline, colour = _SQUARE, furniture_colour(kind)
    x, y = centre
    points = [(x + px * radius, y + py * radius) for px, py in outline]
    ImageDraw.Draw(picture).polygon(points, fill=colour, outline=BLACK)
    size = round(radius * 0.95)
    write(picture, (x, y + 1), sign.code, size, ink(colour), bold=size // 18, anchor="mm")


def ink(paper: Colour) -> Colour:
    """Black or white, whichever is easier to read on that colour (by Rec. 601 luma)."""
    red, green, blue = paper
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE
