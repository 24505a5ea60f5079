"""Card art of the format that the original decodes: 16-bit RGBA PNG of 750 x 1050 pixels, drawn and written here.

The pictures are our own. What counts is the work that reading them makes: size, depth and channels are the
original's; the content is plain (flat shapes, a cheap row filter), so that decoding costs no more than it must.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from envs.gym_cards.deck import RANKS
from envs.gym_cards.drawing import font
from envs.gym_cards.suits import mark

WIDTH, HEIGHT = 750, 1050
BACK = "back"
FONT_FILE = "letters.ttf"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIXTEEN_BITS, _RGBA = 16, 6  # IHDR's bit depth and colour type, PNG specification sec. 11.2.1
_UP = 2  # a row filter: each byte as the difference to the one above, sec. 9.2


def write_art(folder: Path) -> None:
    """Write `A.png` to `K.png`, `back.png` and the typeface of the lines into the folder.

    One suit is enough: hearts cost as much to decode as clubs.
    """
    for rank in RANKS:
        (folder / f"{rank}.png").write_bytes(png(_face(rank)))
    (folder / f"{BACK}.png").write_bytes(png(_back()))
    typeface = font(16)
    (folder / FONT_FILE).write_bytes(typeface.font_bytes)


def png(picture: Image.Image) -> bytes:
    """An RGBA picture as PNG with 16 bits per channel, which Pillow reads but does not write."""
    wide = np.asarray(picture.convert("RGBA"), np.uint16) * 257  # 255 becomes 65535
    rows = wide.astype(">u2").view(np.uint8).reshape(picture.height, -1)
    differences = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))  # modulo 256, as the filter wants it
    filtered = np.insert(differences, 0, _UP, axis=1)
    header = struct.pack(">IIBBBBB", picture.width, picture.height, _SIXTEEN_BITS, _RGBA, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b""))
    return _SIGNATURE + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A white card with round corners on transparency."""
    card = Image.new("RGBA", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((0, 0, WIDTH - 1, HEIGHT - 1), 40, "white", "black", 3)
    return card, draw


def _face(rank: str) -> Image.Image:
    """As many spade marks as the rank counts, in two columns, and the rank in a corner."""
    card, draw = _blank()
    draw.text((40, 30), rank, "black", font(150))
    for index in range(RANKS.index(rank) + 1):
        row, column = divmod(index, 2)
        mark(draw, "S", (250 + 250 * column, 220 + 110 * row), 100)
    return card


def _back() -> Image.Image:
    """A lattice."""
    card, draw = _blank()
    for start in range(-HEIGHT, WIDTH, 60):
        draw.line((start, 0, start + HEIGHT, HEIGHT), "navy", 12)
        draw.line((start, HEIGHT, start + HEIGHT, 0), "navy", 12)
    return card
