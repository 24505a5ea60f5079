"""What the agent has in front of it, as plain data for pictures; nothing that is shut away."""

from typing import Any

from envs.alfworld.world import World, natural

STATES = {"lit": "istoggled", "hot": "ishot", "cold": "iscool", "clean": "isclean"}
"""Visible states of things, and the predicates that they stand for."""


def view(world: World) -> dict[str, Any]:
    """The receptacles within reach with what is visible in them, and what is in hand.

    Returns:
        "holding": str, "" for an empty hand; "receptacles": one {"name", "openable", "closed", "things"} for each
        receptacle at the agent's location, "things" being empty where it is closed; "lit", "hot", "cold", "clean":
        names of visible things, the held one included, in that state; "room": names of all receptacles while the
        agent stands in the middle of the room, else empty. All lists are in natural order.
    """
    names = world.receptacles()
    here = [name for name in names if world.place_of(name) == world.here]
    receptacles = [_receptacle(world, name) for name in here]
    visible = {thing for receptacle in receptacles for thing in receptacle["things"]} | {world.holding or ""}
    states = {state: sorted(visible & world.having(fact), key=natural) for state, fact in STATES.items()}
    return {"holding": world.holding or "", "receptacles": receptacles, **states, "room": [] if here else names}


def _receptacle(world: World, name: str) -> dict[str, Any]:
    closed = world.closed(name)
    things = [] if closed else sorted((thing for thing, place in world.inside if place == name), key=natural)
    return {"name": name, "openable": name in world.having("openable"), "closed": closed, "things": things}
