"""What stands where in a schematic picture: sections of tiles, and what is left out where there is no room."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from envs.alfworld.view import STATES


class Door(Enum):
    """What a header says of its receptacle."""

    NONE = "cannot be closed"
    OPEN = "open"
    CLOSED = "closed"
    ROOM = "no receptacle, the whole room"


@dataclass(frozen=True)
class Tile:
    """One thing, or the receptacles of a class, or (without a class) the number of things left out."""

    kind: str
    number: str
    label: str
    states: tuple[str, ...] = ()
    furniture: bool = False
    """True for receptacles."""


@dataclass(frozen=True)
class Section:
    """A header with tiles below it."""

    title: str
    kind: str
    """Class of the receptacle whose sign stands in the header; "" for the room."""
    number: str
    door: Door
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Grid:
    """Sizes in pixels."""

    columns: int
    tile: int
    """Height of a tile."""
    header: int
    empty: int
    """Height of a section without tiles, below its header."""
    named: bool = True
    """Whether tiles have room for names."""

    def height(self, sections: Sequence[Section]) -> int:
        """What the sections take in all."""
        return sum(self.header + (self.rows(section) * self.tile or self.empty) for section in sections)

    def rows(self, section: Section) -> int:
        """Rows of the section's tiles."""
        return -(-len(section.tiles) // self.columns)


GRIDS = (Grid(2, 94, 46, 130), Grid(3, 78, 40, 60), Grid(4, 60, 32, 26), Grid(5, 46, 29, 0, named=False))
"""From large to small."""


def arrange(view: Mapping[str, Any], space: int) -> tuple[Grid, list[Section]]:
    """The largest grid in which everything fits into `space` pixels; what does not fit into the smallest is counted.

    There, the longest section loses rows first; sections without a tile are left out last.
    """
    states = {state: set(view[state]) for state in STATES}
    sections = [_section(item, states) for item in view["receptacles"]] or [_room(view["room"])]
    grid = next((grid for grid in GRIDS if grid.height(sections) <= space), GRIDS[-1])
    cut = list(sections)
    while grid.height(cut) > space:
        longest = max(range(len(cut)), key=lambda index: grid.rows(cut[index]))
        if not cut[longest].tiles:
            break
        fewer = cut[longest].tiles[: (grid.rows(cut[longest]) - 1) * grid.columns]
        cut[longest] = replace(cut[longest], tiles=fewer)
    cut = [_counted(whole, part) for whole, part in zip(sections, cut, strict=True)]
    fitting = len(cut)
    while grid.height(cut[:fitting]) > space:
        fitting -= 1
    if fitting < len(cut):
        cut[fitting - 1] = replace(cut[fitting - 1], title=f"{cut[fitting - 1].title}, +{len(cut) - fitting} more")
    return grid, cut[:fitting]


def thing_tile(name: str, states: Mapping[str, set[str]]) -> Tile:
    """The tile of a thing; `states` gives the names of those in each state."""
    kind, _, number = name.rpartition(" ")
    found = tuple(state for state in STATES if name in states[state])
    return Tile(kind, number, " ".join([name, *found]), found)


def _section(item: Mapping[str, Any], states: Mapping[str, set[str]]) -> Section:
    kind, _, number = item["name"].rpartition(" ")
    door = Door.NONE
    if item["openable"]:
        door = Door.CLOSED if item["closed"] else Door.OPEN
    title = item["name"] if door is Door.NONE else f"{item['name']} {door.value}"
    return Section(title, kind, number, door, tuple(thing_tile(name, states) for name in item["things"]))


def _room(names: Sequence[str]) -> Section:
    """All receptacles, those of one class as one tile."""
    counts = Counter(name.rpartition(" ")[0] for name in names)
    tiles = [Tile(kind, f"x{count}" if count > 1 else "", kind, furniture=True) for kind, count in counts.items()]
    return Section("middle of the room", "", "", Door.ROOM, tuple(tiles))


def _counted(whole: Section, part: Section) -> Section:
    """The part with the number of those left out: in its last tile, or in the title where no tile is left."""
    missing = len(whole.tiles) - len(part.tiles)
    if not missing:
        return part
    if not part.tiles:
        return replace(part, title=f"{part.title}, +{missing} in it")
    return replace(part, tiles=(*part.tiles[:-1], Tile("", f"+{missing + 1}", "")))
