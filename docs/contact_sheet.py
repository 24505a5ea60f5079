"""Draw frames of the card games: `python -m docs.contact_sheet docs/cards.png`.

Each frame stands as an environment shows it, 300 x 300; the small picture beside it is what a tiny model's image
processor makes of it, 84 x 84.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import envs

GAP, GLANCE, PAPER = 10, 84, (250, 250, 250)

# One row of the sheet per game, one frame per state.
STATES = {
    "gym_cards/NumberLine-v0": [
        {"target": 4, "current": 1},
        {"target": 0, "current": 5},
        {"target": 2, "current": 3},
        {"target": 5, "current": 4},
    ],
    "gym_cards/EZPoints-v0": [
        {"cards": ["H4", "S8"], "formula": [4, "+"]},
        {"cards": ["DT", "C2"], "formula": [10, " ", "+", 2]},
        {"cards": ["S2", "HQ"]},
        {"cards": ["D6", "C2"], "formula": [6, "*", " ", "+", "*", 2]},
    ],
    "gym_cards/Points24-v0": [
        {"cards": ["HA", "SJ", "DQ", "CK"]},
        {"cards": ["H2", "S6", "DT", "C8"], "formula": ["(", 10, "+", 2, "-", 8, ")", "*", 6]},
        {"cards": ["H9", "S7", "D5", "C3"], "formula": ["(", "(", 9, "+", " ", 7, ")", "*", "(", 5, "-", 3, ")", ")"]},
        {"cards": ["ST", "HT", "CT", "DT"], "formula": [10, "*", "*", 10, " ", "/", 10, *"(-)" * 4, "+", 10]},
    ],
    "gym_cards/Blackjack-v0": [
        {"player": [10, 6], "dealer": [9, 7]},
        {"player": [2, 3, 1, 4, 2], "dealer": [1, 10]},
        {"player": [1, 2, 3, 1, 2, 3, 4, 5], "dealer": [7, 2]},
        {"player": [1, 2, 1, 2, 1, 1, 2, 1, 3], "dealer": [10, 5]},
    ],
}


def frames() -> list[list[np.ndarray]]:
    """Frames, uint8 [300, 300, 3], row by row; suits left open come from a fixed seed."""
    rows = []
    for env_id, states in STATES.items():
        env, _ = envs.make(env_id)
        rows.append([env.reset(seed=seed, options=options)[0] for seed, options in enumerate(states)])
    return rows


def sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """All frames with their glances, on paper."""
    size = len(rows[0][0])
    width, height = size + GLANCE + 3 * GAP, size + GAP
    picture = Image.new("RGB", (len(rows[0]) * width, len(rows) * height + GAP), PAPER)
    for row, line in enumerate(rows):
        for column, frame in enumerate(line):
            x, y = column * width + GAP, row * height + GAP
            shown = Image.fromarray(frame)
            picture.paste(shown, (x, y))
            glance = shown.resize((GLANCE, GLANCE), Image.Resampling.BICUBIC)
            picture.paste(glance, (x + size + GAP, y + size - GLANCE))
    return picture


if __name__ == "__main__":
    sheet(frames()).quantize(128, dither=Image.Dither.NONE).save(Path(sys.argv[1]), optimize=True)
