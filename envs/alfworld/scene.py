"""Drawing households at random: which room, which task, which furniture, and what lies where.

A scene is a layout (the receptacles and the task) with a placement (the things). Games that share a layout but not
the placement are "seen" for one another. Pure functions of a generator; the engine is not needed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from envs.alfworld.errors import GenerationError
from envs.alfworld.goal import LIGHT, TASK_TYPES, TREATMENTS, TWO
from envs.alfworld.household import LAMP_HOMES, LAMPS, ROOMS, affords, contents, rooms_for

T = TypeVar("T")


@dataclass(frozen=True)
class Difficulty:
    """Size of a household; ranges are inclusive."""

    receptacles: tuple[int, int]
    things: tuple[int, int]
    """Targets and distractors together; a lamp comes on top."""
    rooms: int = 1
    """How many rooms' furniture may be mixed, from 1 to 4."""
    shared_places: float = 0.0
    """Probability that a receptacle stands where the one before it stands, so that both are in reach there."""

    def __post_init__(self) -> None:
        ordered = 3 <= self.receptacles[0] <= self.receptacles[1] and 2 <= self.things[0] <= self.things[1]
        if not ordered or self.rooms not in range(1, 5) or not 0 <= self.shared_places <= 1:
            raise ValueError(
                f"{self} is no difficulty: it takes ranges from low to high of at least 3 receptacles and 2 things, "
                "1 to 4 rooms and a probability of shared places"
            )


@dataclass(frozen=True)
class Layout:
    """A task in furnished rooms; classes in ALFWorld's spelling."""

    task_type: str
    room: str
    """The room that the task belongs to."""
    target: str
    receptacle: str
    """Where the target belongs; "" for the light task."""
    lamp: str
    """The lamp; "" for all other tasks."""
    receptacles: tuple[str, ...]
    """Class of each receptacle; the same class may occur several times."""
    lamp_home: str = ""
    """Class of the receptacle that the lamp stands on."""


@dataclass(frozen=True)
class Scene:
    """A layout and where things are; receptacles are numbered as in the layout."""

    layout: Layout
    things: tuple[tuple[str, int], ...]
    """(class, number of the receptacle) of each thing, the lamp included."""
    places: tuple[int, ...]
    """Location of each receptacle."""
    wording: int
    """Which of the task's sentences is used, before taking the remainder by their number."""


def draw_layout(rng: np.random.Generator, task_type: str, difficulty: Difficulty) -> Layout:
    """Choose room, target, destination and furniture such that the task is possible and not solved from the start.

    Raises:
        GenerationError: the task type is unknown.
    """
    if task_type not in TASK_TYPES:
        raise GenerationError(f"unknown ALFWorld task type {task_type!r}; there are {', '.join(TASK_TYPES)}")
    room = _pick(rng, rooms_for(task_type))
    limits = Counter(ROOMS[room])
    others = [name for name in sorted(ROOMS) if name != room]
    for index in rng.permutation(len(others))[: int(rng.integers(difficulty.rooms))]:
        limits.update(ROOMS[others[index]])
    target, goal = _pick(rng, _tasks(task_type, room))
    required = [goal] if goal else []
    treatment = TREATMENTS.get(task_type)
    if treatment:
        required.append(treatment.appliance)
    lamp = _pick(rng, LAMPS) if task_type == LIGHT else ""
    lamp_home = _pick(rng, [kind for kind in LAMP_HOMES if kind in ROOMS[room]]) if lamp else ""
    required += [lamp_home] if lamp else []
    homes = [kind for kind in sorted(ROOMS[room]) if kind != goal and target in contents(kind)]
    spare = Counter(limits)
    spare.subtract(required)
    for _ in range(2):
        choice = [kind for kind in homes if spare[kind] > 0]
        if choice:  # one home is enough where a room has no more
            required.append(_pick(rng, choice))
            spare[required[-1]] -= 1
    size = int(rng.integers(difficulty.receptacles[0], difficulty.receptacles[1] + 1))
    pool = sorted(spare.elements())
    extra = [pool[index] for index in rng.permutation(len(pool))[: max(0, size - len(required))]]
    receptacles = tuple(sorted(required + extra))
    return Layout(task_type, room, target, "" if task_type == LIGHT else goal, lamp, receptacles, lamp_home)


def place_things(rng: np.random.Generator, layout: Layout, difficulty: Difficulty) -> Scene:
    """Put targets and distractors into a layout; no target lies in a receptacle of the class where it belongs."""
    kinds = layout.receptacles
    homes = [i for i, kind in enumerate(kinds) if kind != layout.receptacle and layout.target in contents(kind)]
    count = 2 if layout.task_type == TWO else 1
    things = [(layout.target, _pick(rng, homes)) for _ in range(count)]
    total = int(rng.integers(difficulty.things[0], difficulty.things[1] + 1))
    options = [(kind, i) for i, place in enumerate(kinds) for kind in contents(place) if kind != layout.target]
    movable = sorted({kind for kind, _ in options})
    while len(things) < total and movable:
        kind = _pick(rng, movable)
        things.append((kind, _pick(rng, [place for name, place in options if name == kind])))
    if layout.lamp:
        things.append((layout.lamp, _pick(rng, [i for i, kind in enumerate(kinds) if kind == layout.lamp_home])))
    places: list[int] = []
    for index in range(len(kinds)):
        shared = index > 0 and rng.random() < difficulty.shared_places
        places.append(places[-1] if shared else index)
    return Scene(layout, tuple(things), tuple(places), int(rng.integers(1000)))


def _tasks(task_type: str, room: str) -> list[tuple[str, str]]:
    """All sensible (target, destination) of a task type in a room; destination "" for light."""
    kinds = sorted(ROOMS[room])
    treatment = TREATMENTS.get(task_type)
    targets = sorted({thing for kind in kinds for thing in contents(kind)})
    if treatment:
        targets = [thing for thing in targets if affords(thing, treatment.affordance)]
        if treatment.appliance not in kinds:
            raise GenerationError(f"a {room} has no {treatment.appliance}, which {task_type} needs")
    goals: Iterable[str] = [""] if task_type == LIGHT else kinds
    tasks = [
        (target, goal)
        for target in targets
        for goal in goals
        if not goal or (target in contents(goal) and goal != (treatment.appliance if treatment else ""))
    ]
    return [(target, goal) for target, goal in tasks if _homes(room, target, goal) >= 2]


def _homes(room: str, target: str, goal: str) -> int:
    """How many receptacles of the room may hold the target without fulfilling the task."""
    return sum(count for kind, count in ROOMS[room].items() if kind != goal and target in contents(kind))


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
