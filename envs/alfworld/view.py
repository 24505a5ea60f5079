"""What the agent has in front of it, as plain data for pictures; nothing that is shut away."""

from typing import Any

from envs.alfworld.world import World, natural


def view(world: World) -> dict[str, Any]:
    """The receptacles within reach with what is visible in them, and what is in hand.

    Returns:
        "holding": str, "" for an empty hand; "receptacles": one {"name", "closed", "things"} for each receptacle at
        the agent's location, "things" being empty where it is closed; "lit": visible things that are switched on;
        "room": names of all receptacles while the agent stands in the middle of the room, else empty.
    """
    names = world.receptacles()
    here = [name for name in names if world.place_of(name) == world.here]
    receptacles = [
        {"name": name, "closed": world.closed(name), "things": [] if world.closed(name) else _things(world, name)}
        for name in here
    ]
    visible = {thing for receptacle in receptacles for thing in receptacle["things"]}
    return {
        "holding": world.holding or "",
        "receptacles": receptacles,
        "lit": sorted(visible & world.having("istoggled"), key=natural),
        "room": [] if here else names,
    }


def _things(world: World, receptacle: str) -> list[str]:
    return sorted((thing for thing, place in world.inside if place == receptacle), key=natural)
