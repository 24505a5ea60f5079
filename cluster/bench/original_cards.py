"""A reconstruction of the drawing work that RL4VLM's gym_cards do, to measure ours beside it. Not their code.

Rebuilt from a description of what the original does: at a reset it decodes a 16-bit PNG of 750 x 1050 pixels for
every card it deals and scales it down; at every frame it loads a TrueType font from its file. Where the description
leaves a choice, the cheaper one is taken: the file of the font is small and named by its full path, nothing is
searched, and no rules are played, so what is measured is a lower bound, but for Blackjack.

How many cards Blackjack decodes is not described. The times measured with the original (reset 39 ms, step 27 ms, where
EZPoints takes 45 ms for two cards) fit two at a reset and one at a step. So it is done here: a fit to those times, not
a bound, and no evidence for them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cluster.bench.original_art import BACK, FONT_FILE
from envs.gym_cards.cards import FELT
from envs.gym_cards.drawing import BLACK, SIZE, WHITE, Colour

Kind = Literal["reset", "step"]


class OriginalCards:
    """Draws the states of one game; `folder` is what `original_art.write_art` filled."""

    table: Colour = FELT
    ink: Colour = WHITE

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cards: list[Image.Image] = []

    def draw(self, kind: Kind, info: Mapping[str, Any]) -> np.ndarray:
        """The frame, uint8 [300, 300, 3], that a reset or a step into this state would return."""
        picture = Image.new("RGB", (SIZE, SIZE), self.table)
        self._lay(picture, kind, info)
        font = ImageFont.truetype(str(self._folder / FONT_FILE), self._letters())
        draw = ImageDraw.Draw(picture)
        for position, text in self._lines(info):
            draw.text(position, text, self.ink, font)
        return np.array(picture)

    def _decode(self, name: str, size: tuple[int, int]) -> Image.Image:
        with Image.open(self._folder / f"{name}.png") as art:
            return art.convert("RGB").resize(size)

    @abstractmethod
    def _letters(self) -> int:
        """Size of the letters."""

    @abstractmethod
    def _lay(self, picture: Image.Image, kind: Kind, info: Mapping[str, Any]) -> None:
        """Put the cards onto the picture."""

    @abstractmethod
    def _lines(self, info: Mapping[str, Any]) -> Sequence[tuple[tuple[int, int], str]]:
        """Position and text of every line."""


class OriginalNumberLine(OriginalCards):
    """Two lines of text, no cards."""

    table, ink = WHITE, BLACK

    def _letters(self) -> int:
        return 36

    def _lay(self, picture: Image.Image, kind: Kind, info: Mapping[str, Any]) -> None:
        pass

    def _lines(self, info: Mapping[str, Any]) -> Sequence[tuple[tuple[int, int], str]]:
        return ((30, 60), f"Target: {info['Target']}"), ((30, 180), f"Current: {info['Current']}")


class OriginalFormula(OriginalCards):
    """EZPoints and Points24: cards decoded at a reset and kept, the formula written at every frame."""

    size: tuple[int, int]
    corners: Sequence[tuple[int, int]]
    letters: int
    line: tuple[int, int]

    def _letters(self) -> int:
        return self.letters

    def _lay(self, picture: Image.Image, kind: Kind, info: Mapping[str, Any]) -> None:
        if kind == "reset":
            self._cards = [self._decode(code[1], self.size) for code in info["Cards"]]
        for corner, card in zip(self.corners, self._cards, strict=True):
            picture.paste(card, corner)

    def _lines(self, info: Mapping[str, Any]) -> Sequence[tuple[tuple[int, int], str]]:
        return ((self.line, f"Formula: {' '.join(map(str, info['Formula']))}"),)


class OriginalEZPoints(OriginalFormula):
    """Two large cards."""

    size, corners, letters, line = (135, 189), ((5, 55), (153, 55)), 20, (10, 258)


class OriginalPoints24(OriginalFormula):
    """Four small cards."""

    size, corners, letters, line = (67, 93), ((5, 103), (78, 103), (152, 103), (226, 103)), 16, (10, 210)


class OriginalBlackjack(OriginalCards):
    """Two cards decoded at a reset, one at a step; the others are pasted as they are."""

    size = (70, 98)

    def _letters(self) -> int:
        return 16

    def _lay(self, picture: Image.Image, kind: Kind, info: Mapping[str, Any]) -> None:
        if kind == "reset":
            player, dealer = info["Player Card"][0], BACK
            self._cards = [self._decode(player[1], self.size), self._decode(dealer, self.size)]
        else:
            self._cards.append(self._decode(info["Player Card"][-1][1], self.size))
        for index, card in enumerate(self._cards):
            picture.paste(card, (5 + 74 * index, 150))

    def _lines(self, info: Mapping[str, Any]) -> Sequence[tuple[tuple[int, int], str]]:
        return ((5, 5), "Dealer"), ((5, 130), "Player")
