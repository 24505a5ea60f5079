"""What a player has been told of a household: a partial world built from sentences alone.

THOR's own state stays behind the simulator's boundary, so the scripted player of the visual mode knows exactly what
the policy can read. What it was not told does not exist for it, and an unopened door is taken to be shut.
"""

import re
from collections.abc import Sequence

from envs.alfworld.episode import NOTHING
from envs.alfworld.search import Search
from envs.alfworld.world import Fact, World

_NAME = re.compile(r"\ba ([a-z-]+ \d+)")
_SEEN = re.compile(r"you see (.*)", re.DOTALL)
_TAKEN = re.compile(r"You pick up the ([a-z-]+ \d+)")
_MOVED = re.compile(r"You move the ([a-z-]+ \d+) to the ([a-z-]+ \d+)")
_TREATED = re.compile(r"You (heat|cool|clean) the ([a-z-]+ \d+)")

_DOORS = {"box", "cabinet", "drawer", "fridge", "microwave", "safe"}
_STATES = {"heat": "ishot", "cool": "iscool", "clean": "isclean"}
_MIDDLE = "middle of the room"


class Notes:
    """Grows with every command and its answer.

    Args:
        room: the sentence that lists all receptacles.
    """

    def __init__(self, room: str) -> None:
        self._receptacles = _NAME.findall(room)
        self._shut = {name for name in self._receptacles if _kind(name) in _DOORS}
        self._here = _MIDDLE
        self._holding = ""
        self._inside: dict[str, str] = {}  # thing -> receptacle
        self._states: set[Fact] = set()
        self._shunned: set[str] = set()  # receptacles that refused something
        self._search = Search()

    @property
    def searched(self) -> set[str]:
        """Receptacles whose content the player has seen."""
        return self._search.searched

    def learn(self, command: str, text: str, admissible: Sequence[str]) -> None:
        """Note the answer to an admissible command, and what can be done now."""
        if text == NOTHING:
            self._refused(command)
            return
        if command.startswith("go to "):
            self._here = command.removeprefix("go to ")
        if f"open {self._here}" in admissible:
            self._shut.add(self._here)
        elif f"close {self._here}" in admissible:
            self._shut.discard(self._here)
        self._note(text)
        self._search.learn(command, self.world())

    def forgive(self) -> None:
        """Look everywhere once more, also where something was refused."""
        self._shunned.clear()
        self.searched.clear()

    def world(self) -> World:
        """What is known; things and receptacles that were never told are missing."""
        things = [*self._inside, *([self._holding] if self._holding else [])]
        kinds = {_kind(thing) for thing in things}
        facts: set[Fact] = {("atlocation", ("agent1", self._here)), *self._states}
        for place in set(self._receptacles) - self._shunned:
            facts |= {("receptacletype", (place, f"{_kind(place)}type")), ("receptacleatlocation", (place, place))}
            facts |= {("openable", (place,))} if _kind(place) in _DOORS else set()
            facts |= {("opened", (place,))} if place not in self._shut else set()
            facts |= {("cancontain", (f"{_kind(place)}type", f"{kind}type")) for kind in kinds}
        facts |= {("objecttype", (thing, f"{_kind(thing)}type")) for thing in things}
        facts |= {("inreceptacle", pair) for pair in self._inside.items() if pair[1] not in self._shunned}
        facts |= {("holds", ("agent1", self._holding))} if self._holding else set()
        return World.from_facts(facts)

    def _note(self, text: str) -> None:
        if taken := _TAKEN.search(text):
            self._holding = taken[1]
            self._inside.pop(taken[1], None)
        elif moved := _MOVED.search(text):
            self._holding = ""
            self._inside[moved[1]] = moved[2]
        elif treated := _TREATED.search(text):
            # Heat drives out cold and the other way round; what is clean stays clean.
            opposite = {"heat": "iscool", "cool": "ishot"}.get(treated[1], "")
            self._states.discard((opposite, (treated[2],)))
            self._states.add((_STATES[treated[1]], (treated[2],)))
        elif (seen := _SEEN.search(text)) and self._here != _MIDDLE:
            self._inside = {thing: place for thing, place in self._inside.items() if place != self._here}
            self._inside |= dict.fromkeys(_NAME.findall(seen[1]), self._here)

    def _refused(self, command: str) -> None:
        """Avoid the receptacle that a command named in vain, and doubt that a thing is where it was seen."""
        words = command.split()
        self._shunned.add(" ".join(words[-2:]))
        if words[0] == "take":
            self._inside.pop(" ".join(words[1:3]), None)


def _kind(name: str) -> str:
    return name.rpartition(" ")[0]
