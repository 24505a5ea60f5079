"""A household state as plain data, built from the engine's facts under displayed names like "mug 1"."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

Fact = tuple[str, tuple[str, ...]]
"""Lower-case predicate and the displayed names of its arguments."""


@dataclass(frozen=True)
class World:
    """Everything that is true, whether the agent has seen it or not. Names are displayed names, lower case."""

    here: str
    """Location of the agent; locations have names of their own."""
    holding: str | None
    """What the agent holds."""
    inside: frozenset[tuple[str, str]]
    """(thing, receptacle) of everything that lies somewhere."""
    facts: frozenset[Fact]

    @classmethod
    def from_facts(cls, facts: Iterable[Fact]) -> "World":
        """Index the facts.

        Raises:
            ValueError: no fact says where the agent is.
        """
        known = frozenset(facts)
        here = [names[1] for predicate, names in known if predicate == "atlocation"]
        if len(here) != 1:
            raise ValueError(f"the facts name {len(here)} locations of the agent, not one; the game file is damaged")
        held = [names[1] for predicate, names in known if predicate == "holds"]
        inside = frozenset((names[0], names[1]) for predicate, names in known if predicate == "inreceptacle")
        return cls(here[0], held[0] if held else None, inside, known)

    def things(self, kind: str) -> list[str]:
        """Names of all things of a class, in natural order."""
        return self._of_type("objecttype", kind)

    def receptacles(self, kind: str | None = None) -> list[str]:
        """Names of the receptacles of a class, or of all, in natural order."""
        return self._of_type("receptacletype", kind)

    def having(self, predicate: str) -> set[str]:
        """First arguments of all facts of that predicate, such as what is "opened"."""
        return {names[0] for name, names in self.facts if name == predicate}

    def place_of(self, receptacle: str) -> str | None:
        """Location of a receptacle; None if the game names none."""
        places = [names[1] for name, names in self.facts if name == "receptacleatlocation" and names[0] == receptacle]
        return min(places, default=None)

    def closed(self, receptacle: str) -> bool:
        """True when it must be opened before one sees or reaches what is inside."""
        return receptacle in self.having("openable") and receptacle not in self.having("opened")

    def can_contain(self, receptacle: str, kind: str) -> bool:
        """True when things of that class may be put there."""
        kinds = {names[1] for name, names in self.facts if name == "receptacletype" and names[0] == receptacle}
        return any(("cancontain", (r, f"{kind}type")) in self.facts for r in kinds)

    def _of_type(self, predicate: str, kind: str | None) -> list[str]:
        found = {
            names[0] for name, names in self.facts if name == predicate and (kind is None or names[1] == f"{kind}type")
        }
        return sorted(found, key=natural)


def natural(name: str) -> tuple[str, int]:
    """Sort key that puts "cabinet 2" before "cabinet 10"."""
    match = re.fullmatch(r"(.*?) ?(\d*)", name)
    assert match is not None  # the pattern matches any single line
    return match[1], int(match[2] or 0)
