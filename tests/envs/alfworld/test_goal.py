import pytest

from envs.alfworld.goal import TASK_TYPES, Goal, goal_fraction
from tests.envs.alfworld.worlds import CLEAN, COOL, HEAT, LIGHT, SIMPLE, TWO, at, holding, kitchen

PLACED = ("-inreceptacle mug 1|countertop 1", "inreceptacle mug 1|cabinet 1")
LAMP_ON = "istoggled desklamp 1"


@pytest.mark.parametrize(
    "goal, changes, fraction",
    [
        (SIMPLE, ("-inreceptacle mug 2|cabinet 10",), 0),
        (SIMPLE, (), 1),  # mug 2 lies in cabinet 10
        (TWO, (), 1 / 2),
        (TWO, PLACED, 1 / 2),  # two mugs in two cabinets
        (TWO, (*PLACED, "-inreceptacle mug 2|cabinet 10", "inreceptacle mug 2|cabinet 1"), 1),
        (CLEAN, (), 1 / 3),
        (CLEAN, ("isclean mug 1",), 2 / 3),  # the clean mug is not the placed one
        (CLEAN, ("isclean mug 2",), 1),
        (HEAT, (), 0),
        (HEAT, ("ishot apple 1",), 1 / 3),
        (HEAT, ("ishot mug 1",), 0),
        (HEAT, ("ishot apple 1", "-inreceptacle apple 1|countertop 1", "inreceptacle apple 1|fridge 1"), 1),
        (COOL, ("ishot apple 1",), 1 / 3),
        (COOL, ("iscool apple 1",), 1),
        (LIGHT, (), 0),
        (LIGHT, holding("mug 1", "countertop 1"), 1 / 2),
        (LIGHT, (LAMP_ON,), 0),  # on, but elsewhere
        (LIGHT, (LAMP_ON, *at("loc 3")), 1 / 2),
        (LIGHT, (LAMP_ON, *at("loc 3"), *holding("apple 1", "countertop 1")), 1 / 2),
        (LIGHT, (LAMP_ON, *at("loc 3"), *holding("mug 1", "countertop 1")), 1),
    ],
)
def test_fraction_of_fulfilled_conditions(goal, changes, fraction):
    assert goal_fraction(kitchen(*changes), goal) == pytest.approx(fraction)


def test_goal_is_read_from_traj_data():
    params = {"object_target": "Mug", "parent_target": "Desk", "toggle_target": "DeskLamp", "mrecep_target": ""}
    placed = Goal.from_traj_data({"task_type": "pick_two_obj_and_place", "pddl_params": params})
    assert placed == Goal("pick_two_obj_and_place", "mug", "desk", "")
    lit = Goal.from_traj_data({"task_type": "look_at_obj_in_light", "pddl_params": params})
    assert lit == Goal("look_at_obj_in_light", "mug", "", "desklamp")


def test_only_three_tasks_treat_their_target():
    verbs = {task: getattr(Goal(task, "mug", "desk", "").treatment, "verb", None) for task in TASK_TYPES}
    assert [verb for verb in verbs.values() if verb] == ["clean", "heat", "cool"]


def test_unknown_task_type_is_refused():
    params = {"object_target": "Mug", "parent_target": "Desk", "toggle_target": ""}
    with pytest.raises(ValueError, match="'juggle', not one of pick_and_place_simple"):
        Goal.from_traj_data({"task_type": "juggle", "pddl_params": params})
