"""What a household game asks for, and how much of it a state fulfils."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envs.alfworld.world import World

TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
"""The six kinds of task, in ALFWorld's order (its numbers are 1 to 6)."""

LIGHT, TWO = "look_at_obj_in_light", "pick_two_obj_and_place"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What a thing must go through before it is placed."""

    verb: str
    """First word of the command."""
    state: str
    """Predicate that holds afterwards."""
    appliance: str
    """Class of the receptacle where it is done."""
    affordance: str
    """Key in ALFWorld's table of what can be treated; `<lower case>` is the predicate of such things."""


TREATMENTS = {
    "pick_clean_then_place_in_recep": Treatment("clean", "isclean", "SinkBasin", "Cleanable"),
    "pick_heat_then_place_in_recep": Treatment("heat", "ishot", "Microwave", "Heatable"),
    "pick_cool_then_place_in_recep": Treatment("cool", "iscool", "Fridge", "Coolable"),
}


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal of one game; classes are lower case, as in displayed names."""

    task_type: str
    target: str
    """Class of the thing to handle."""
    receptacle: str
    """Class of where it belongs; "" when looking at it under a lamp."""
    lamp: str
    """Class of the lamp; "" for all other tasks."""

    @classmethod
    def from_traj_data(cls, data: Mapping[str, Any]) -> "Goal":
        """Read the goal from the content of a `traj_data.json`.

        Raises:
            KeyError: a field is missing.
            ValueError: the task type is none of the six.
        """
        params, task_type = data["pddl_params"], data["task_type"]
        if task_type not in TASK_TYPES:
            raise ValueError(f"task_type is {task_type!r}, not one of {', '.join(TASK_TYPES)}")
        names = [str(params[key]).lower() for key in ("object_target", "parent_target", "toggle_target")]
        target, receptacle, lamp = names
        return cls(task_type, target, "" if task_type == LIGHT else receptacle, lamp if task_type == LIGHT else "")

    @property
    def treatment(self) -> Treatment | None:
        """What must be done to the target first, if anything."""
        return TREATMENTS.get(self.task_type)


def goal_fraction(world: World, goal: Goal) -> float:
    """Fulfilled conditions over all conditions, in [0, 1]; 1 exactly when the task is completed.

    Conditions as the THOR simulation of ALFWorld counts them: one for placing; two for two things in one
    receptacle; two for light (target in hand, lamp on and here); three for a treated thing (some target placed,
    some target treated, one that is both).
    """
    targets = world.things(goal.target)
    if goal.task_type == LIGHT:
        lamps = set(world.things(goal.lamp)) & world.having("istoggled")
        lit = any(world.place_of(receptacle) == world.here for lamp, receptacle in world.inside if lamp in lamps)
        return ((world.holding in targets) + lit) / 2
    homes = set(world.receptacles(goal.receptacle))
    placed = [(thing, receptacle) for thing, receptacle in world.inside if thing in targets and receptacle in homes]
    if goal.task_type == TWO:
        fullest = max((sum(receptacle == home for _, receptacle in placed) for home in homes), default=0)
        return min(fullest, 2) / 2
    if goal.treatment is None:
        return float(bool(placed))
    treated = world.having(goal.treatment.state)
    conditions = (bool(placed), any(thing in treated for thing in targets), any(t in treated for t, _ in placed))
    return sum(conditions) / 3
