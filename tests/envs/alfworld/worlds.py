"""Hand-written households for tests that need no engine."""

from envs.alfworld.goal import Goal
from envs.alfworld.world import World

KITCHEN = """
atlocation agent1|loc start
receptacletype cabinet 1|cabinettype
receptacletype cabinet 2|cabinettype
receptacletype cabinet 10|cabinettype
receptacletype countertop 1|countertoptype
receptacletype fridge 1|fridgetype
receptacletype microwave 1|microwavetype
receptacletype sinkbasin 1|sinkbasintype
receptacleatlocation cabinet 1|loc 1
receptacleatlocation cabinet 2|loc 1
receptacleatlocation cabinet 10|loc 2
receptacleatlocation countertop 1|loc 3
receptacleatlocation fridge 1|loc 4
receptacleatlocation microwave 1|loc 5
receptacleatlocation sinkbasin 1|loc 6
openable cabinet 1
openable cabinet 2
openable cabinet 10
openable fridge 1
openable microwave 1
cancontain cabinettype|mugtype
cancontain countertoptype|mugtype
cancontain countertoptype|appletype
cancontain fridgetype|appletype
objecttype mug 1|mugtype
objecttype mug 2|mugtype
objecttype apple 1|appletype
objecttype desklamp 1|desklamptype
inreceptacle mug 1|countertop 1
inreceptacle mug 2|cabinet 10
inreceptacle apple 1|countertop 1
inreceptacle desklamp 1|countertop 1
"""

SIMPLE = Goal("pick_and_place_simple", "mug", "cabinet", "")
TWO = Goal("pick_two_obj_and_place", "mug", "cabinet", "")
CLEAN = Goal("pick_clean_then_place_in_recep", "mug", "cabinet", "")
HEAT = Goal("pick_heat_then_place_in_recep", "apple", "fridge", "")
COOL = Goal("pick_cool_then_place_in_recep", "apple", "countertop", "")
LIGHT = Goal("look_at_obj_in_light", "mug", "", "desklamp")


def kitchen(*changes: str) -> World:
    """The kitchen with some facts added; "-fact" takes one away."""
    facts = set(filter(None, KITCHEN.splitlines()))
    for change in changes:
        if change.startswith("-"):
            facts.remove(change[1:])
        else:
            facts.add(change)
    pairs = (fact.partition(" ") for fact in facts)
    return World.from_facts((predicate, tuple(names.split("|"))) for predicate, _, names in pairs)


def at(place: str) -> tuple[str, str]:
    """Changes that move the agent from its start to a location."""
    return "-atlocation agent1|loc start", f"atlocation agent1|{place}"


def holding(thing: str, receptacle: str) -> tuple[str, str]:
    """Changes that put a thing of the kitchen into the agent's hand."""
    return f"-inreceptacle {thing}|{receptacle}", f"holds agent1|{thing}"
