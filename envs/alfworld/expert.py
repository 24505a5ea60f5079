"""A scripted player: which command to give next, from what is known of the household.

It searches like a person who has seen only some receptacles, or knows everything where `searched` is None. It
decides from the state alone, so it also recovers from whatever a policy did before. It is our own: the one in
alfworld 0.4.2 never empties its hands (it waits for "put", the command is "move"), draws from the process's
global random generator and does not know every class.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from envs.alfworld.goal import LIGHT, TWO, Goal
from envs.alfworld.world import World, natural


@dataclass(frozen=True)
class Advice:
    """What to do next, and why in a few words."""

    command: str
    reason: str


@dataclass(frozen=True)
class _Situation:
    world: World
    goal: Goal
    admissible: Sequence[str]
    searched: Collection[str] | None

    def reveals(self, receptacle: str) -> bool:
        """True when the player knows what is in it."""
        return self.searched is None or receptacle in self.searched


def advise(world: World, goal: Goal, admissible: Sequence[str], searched: Collection[str] | None) -> Advice:
    """The next command; always one of `admissible`.

    Args:
        world: the whole truth.
        goal: what the game asks for.
        admissible: commands that do something now.
        searched: receptacles whose content the player has seen; None for a player who knows everything.

    Raises:
        ValueError: nothing sensible is left to do, since the goal is impossible in this world or reached.
    """
    now = _Situation(world, goal, admissible, searched)
    targets = set(world.things(goal.target))
    if world.holding is None:
        return _fetch(now, _wanted(now, targets))
    if world.holding not in targets:
        return _drop(now)
    if goal.task_type == LIGHT:
        return _light(now)
    return _deliver(now, world.holding)


def _wanted(now: _Situation, targets: set[str]) -> set[str]:
    """Targets worth fetching: not those that lie where they should, in the state in which they should be."""
    world, goal = now.world, now.goal
    if goal.task_type == LIGHT:
        return targets
    if goal.task_type == TWO:
        home = _home(now)
        return {thing for thing in targets if (thing, home) not in world.inside}
    treated = world.having(goal.treatment.state) if goal.treatment else targets
    homes = set(world.receptacles(goal.receptacle))
    return {t for t in targets if t not in treated or not any((t, home) in world.inside for home in homes)}


def _home(now: _Situation) -> str:
    """The receptacle to fill: for two things the one known to hold most of them, else one here, else the first."""
    world = now.world
    targets = set(world.things(now.goal.target))
    homes = world.receptacles(now.goal.receptacle)
    if not homes:
        raise ValueError(f"there is no {now.goal.receptacle} in this household; the task is impossible")

    def filled(home: str) -> int:
        counts = now.goal.task_type == TWO and now.reveals(home)
        return sum(place == home for thing, place in world.inside if thing in targets) if counts else 0

    return max(homes, key=lambda home: (filled(home), world.place_of(home) == world.here))  # the first of equals


def _fetch(now: _Situation, wanted: set[str]) -> Advice:
    """Take a wanted thing whose place is known, else look for one."""
    known = [(thing, place) for thing, place in now.world.inside if thing in wanted and now.reveals(place)]
    if not known:
        return _search(now, now.goal.target)
    thing, place = min(known, key=lambda pair: (now.world.place_of(pair[1]) != now.world.here, *map(natural, pair)))
    return _at(now, place, [f"take {thing} from {place}"], f"{thing} is at {place}")


def _deliver(now: _Situation, thing: str) -> Advice:
    """Treat the thing in hand if that is still to do, then put it where it belongs."""
    treatment = now.goal.treatment
    if treatment and thing not in now.world.having(treatment.state):
        appliances = now.world.receptacles(treatment.appliance.lower())
        if not appliances:
            raise ValueError(f"there is no {treatment.appliance} in this household; the task is impossible")
        wish = f"{treatment.verb} {thing} with {appliances[0]}"
        return _at(now, appliances[0], [wish], f"{thing} is in hand, {treatment.verb} it first", through_door=True)
    home = _home(now)
    return _at(now, home, _put(thing, home), f"{thing} belongs in {home}")


def _light(now: _Situation) -> Advice:
    """Go to a lamp and switch it on."""
    lamps = set(now.world.things(now.goal.lamp))
    known = [(lamp, place) for lamp, place in now.world.inside if lamp in lamps and now.reveals(place)]
    if not known:
        return _search(now, now.goal.lamp)
    lamp, place = min(known, key=lambda pair: (now.world.place_of(pair[1]) != now.world.here, *map(natural, pair)))
    return _at(now, place, [f"use {lamp}"], f"{lamp} is at {place}", through_door=True)


def _drop(now: _Situation) -> Advice:
    """Free the hand of a thing that is not wanted, here if possible."""
    world, thing = now.world, now.world.holding
    assert thing is not None  # the caller has seen that the hand is full
    kind = thing.rpartition(" ")[0]
    places = [place for place in world.receptacles() if world.can_contain(place, kind)]
    if not places:
        raise ValueError(f"no receptacle takes the {thing} in hand")
    place = min(places, key=lambda name: (world.place_of(name) != world.here, world.closed(name), natural(name)))
    return _at(now, place, _put(thing, place), f"{thing} is not needed")


def _search(now: _Situation, kind: str) -> Advice:
    """Look into the next receptacle, those where such a thing may lie first."""
    world = now.world
    unseen = [place for place in world.receptacles() if not now.reveals(place)]
    if not unseen:
        raise ValueError(f"there is no {kind} left to handle in this household")
    place = min(
        unseen,
        key=lambda name: (world.place_of(name) != world.here, not world.can_contain(name, kind), natural(name)),
    )
    return _at(now, place, [f"examine {place}"], f"look for {kind} in {place}")


def _at(now: _Situation, place: str, wishes: Iterable[str], reason: str, through_door: bool = False) -> Advice:
    """The first admissible wish, or what brings the player closer to it.

    Args:
        now: the situation.
        place: receptacle where the wish can be fulfilled.
        wishes: commands for the same thing in the wordings of different games.
        reason: why.
        through_door: True when the receptacle need not be open for it.
    """
    if now.world.place_of(place) != now.world.here:
        wishes = [f"go to {place}"]
    elif not through_door and now.world.closed(place):
        wishes = [f"open {place}"]
    for wish in wishes:
        if wish in now.admissible:
            return Advice(wish, reason)
    raise ValueError(f"no way to do what is next ({reason}); tried {', '.join(map(repr, wishes))}")


def _put(thing: str, place: str) -> list[str]:
    """Wordings of games since 2022 and before."""
    return [f"move {thing} to {place}", f"put {thing} in/on {place}"]
