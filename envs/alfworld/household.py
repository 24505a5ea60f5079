# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (alfworld is an optional extra: types are checked with and without it)
"""What ALFWorld knows of household things: which class lies where, and what can be done with it.

Like `engine` this file needs the optional package; everything that generates scenes reads the tables here.
"""

from functools import cache
from pathlib import Path

from envs.alfworld.errors import INSTALL
from envs.errors import EnvSetupError

try:
    from alfworld import info as _package
    from alfworld.gen import constants as _constants
    from alfworld.gen import goal_library as _goals
except ModuleNotFoundError as missing:
    raise EnvSetupError(f"{INSTALL}; missing is {missing.name!r}") from missing

PACKAGE_VERSION: str = _package.__version__

OPENABLE = frozenset(_constants.OPENABLE_CLASS_LIST)
LAMPS = ("DeskLamp", "FloorLamp")
CLASSES: tuple[str, ...] = tuple(
    sorted(
        {name.lower() for home, things in _constants.VAL_RECEPTACLE_OBJECTS.items() for name in (home, *things)}
        | {lamp.lower() for lamp in LAMPS}
    )
)
"""All classes of things and receptacles as the games spell them, sorted; sliced ones are two words and left out."""
LAMP_HOMES = ("Desk", "Dresser", "SideTable", "CoffeeTable", "DiningTable")
"""Receptacles on which ALFWorld stands a lamp; the table of contents leaves lamps out."""

ROOMS: dict[str, dict[str, int]] = {
    "Kitchen": {
        "Cabinet": 8, "CoffeeMachine": 1, "CounterTop": 3, "DiningTable": 1, "Drawer": 6, "Fridge": 1,
        "GarbageCan": 1, "Microwave": 1, "Shelf": 3, "SinkBasin": 1, "StoveBurner": 4,
    },
    "LivingRoom": {
        "ArmChair": 2, "Cabinet": 4, "CoffeeTable": 1, "DiningTable": 1, "Drawer": 5, "Dresser": 1,
        "GarbageCan": 1, "Safe": 1, "Shelf": 4, "SideTable": 2, "Sofa": 1,
    },
    "Bedroom": {
        "ArmChair": 1, "Bed": 1, "Desk": 2, "Drawer": 6, "Dresser": 1, "GarbageCan": 1, "LaundryHamper": 1,
        "Safe": 1, "Shelf": 4, "SideTable": 2,
    },
    "Bathroom": {
        "BathtubBasin": 1, "Cabinet": 4, "Cart": 1, "CounterTop": 1, "Drawer": 3, "GarbageCan": 1,
        "HandTowelHolder": 2, "Shelf": 2, "SinkBasin": 2, "Toilet": 1, "ToiletPaperHanger": 1, "TowelHolder": 1,
    },
}  # fmt: skip
"""Receptacle classes of each room and how many of each there are at most: our own choice."""


@cache
def contents(receptacle: str) -> tuple[str, ...]:
    """Classes that may lie in a receptacle class, sorted; slices left out, since no task cuts anything."""
    return tuple(sorted(kind for kind in _constants.VAL_RECEPTACLE_OBJECTS[receptacle] if "Sliced" not in kind))


def affords(kind: str, affordance: str) -> bool:
    """True when things of the class are "Heatable", "Coolable", "Cleanable" or "Toggleable"."""
    return kind in _constants.VAL_ACTION_OBJECTS[affordance]


def rooms_for(task_type: str) -> tuple[str, ...]:
    """Rooms in which ALFWorld sets a task of that type, sorted."""
    return tuple(sorted(_constants.GOALS_VALID[task_type]))


def task_sentences(task_type: str, target: str, receptacle: str, lamp: str) -> list[str]:
    """The wordings of a task, without full stop."""
    names = {"obj": target.lower(), "recep": receptacle.lower(), "toggle": lamp.lower(), "mrecep": ""}
    return [template.format(**names) for template in _goals.gdict[task_type]["templates"]]


def goal_pddl(task_type: str, target: str, receptacle: str, lamp: str) -> str:
    """The goal clause of a PDDL problem; it also closes the problem's outer bracket."""
    text: str = _goals.gdict[task_type]["pddl"]
    return text.format(obj=target, recep=receptacle, toggle=lamp, mrecep="").replace("#", "-")


@cache
def domain() -> str:
    """The PDDL domain that every game carries."""
    return Path(_package.ALFRED_PDDL_PATH).read_text(encoding="utf-8")


def grammar(task_sentence: str) -> str:
    """The text grammar of a game with that task."""
    return Path(_package.ALFRED_TWL2_PATH).read_text(encoding="utf-8").replace("UNKNOWN GOAL", task_sentence)
