"""Draw schematic frames of ALFWorld's text games: `python -m docs.alfworld_sheet docs/alfworld.png`.

The first two rows are moments of real games, played by the scripted player; the third shows views that real games
rarely offer. Each frame stands as the policy sees it, 300 x 300; the small picture beside it is what a tiny model's
image processor makes of it, 84 x 84. Needs the extra croupier[alfworld].
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import envs
from docs.contact_sheet import sheet
from envs.alfworld.schematic import draw

View = Mapping[str, Any]

GAMES = 60
"""Games of the small panel that are looked through for the moments."""

MOMENTS: list[Callable[[View], bool]] = [
    lambda view: len(view["room"]) > 5,
    lambda view: any(item["closed"] for item in view["receptacles"]),
    lambda view: any(item["openable"] and len(item["things"]) == 2 for item in view["receptacles"]),
    lambda view: any(not item["openable"] and len(item["things"]) > 2 for item in view["receptacles"]),
    lambda view: view["holding"] in view["hot"] and bool(view["holding"]),
    lambda view: view["holding"] in view["cold"] and bool(view["holding"]),
    lambda view: view["holding"] in view["clean"] and bool(view["holding"]),
    lambda view: bool(view["lit"]) and bool(view["holding"]),
]
"""The first state that fits is shown."""

NOTHING: dict[str, Any] = {"holding": "", "receptacles": [], "room": [], "lit": [], "hot": [], "cold": [], "clean": []}


def moments() -> list[np.ndarray]:
    """One frame for each of `MOMENTS`, uint8 [300, 300, 3].

    Raises:
        LookupError: no game of the panel offers a moment.
    """
    found: dict[int, np.ndarray] = {}
    for view in _views():
        for index, fits in enumerate(MOMENTS):
            if index not in found and fits(view):
                found[index] = draw(view)
                break  # one moment per state
        if len(found) == len(MOMENTS):
            return [found[index] for index in range(len(MOMENTS))]
    raise LookupError(f"{GAMES} games offer only the moments {sorted(found)} of {len(MOMENTS)}")


def rare() -> list[np.ndarray]:
    """Crowded and mixed views, uint8 [300, 300, 3] each."""
    kitchen = [f"{kind} {number}" for kind in ("cabinet", "drawer", "stoveburner", "shelf") for number in range(1, 6)]
    kitchen += ["fridge 1", "microwave 1", "sinkbasin 1", "countertop 1", "diningtable 1", "garbagecan 1", "toaster 1"]
    crowd = [f"{kind} {number}" for kind in ("apple", "egg", "fork", "knife", "mug", "plate") for number in range(1, 6)]
    places = [
        _place("cabinet 1", closed=True),
        _place("cabinet 2", "plate 1", "bowl 2", closed=False),
        _place("drawer 3", closed=False),
    ]
    return [
        draw({**NOTHING, "room": kitchen}),
        draw({**NOTHING, "receptacles": places, "holding": "plate 2", "cold": ["plate 2"], "clean": ["plate 2"]}),
        draw({**NOTHING, "receptacles": [_place("countertop 1", *crowd)], "hot": ["egg 2"], "clean": ["fork 3"]}),
        draw({**NOTHING, "receptacles": [_place(f"drawer {n}", closed=n % 2 > 0) for n in range(1, 10)]}),
    ]


def _views() -> Iterator[View]:
    """What is in front of the player in every state of some games; the same at every call."""
    env, task = envs.make("alfworld/Schematic-v0", games="small")
    for game in range(GAMES):
        _, info = env.reset(seed=game)
        yield info["view"]
        ended = False
        while not ended:
            _, _, terminated, truncated, info = env.step(task.env_action(info["expert"][0], info))
            yield info["view"]
            ended = terminated or truncated
    env.close()


def _place(name: str, *things: str, closed: bool | None = None) -> dict[str, Any]:
    return {"name": name, "openable": closed is not None, "closed": bool(closed), "things": list(things)}


if __name__ == "__main__":
    found = moments()
    picture = sheet([found[:4], found[4:], rare()])
    picture.quantize(128, dither=Image.Dither.NONE).save(Path(sys.argv[1]), optimize=True)
