import pytest

from envs.alfworld.expert import advise
from tests.envs.alfworld.worlds import CLEAN, HEAT, LIGHT, SIMPLE, TWO, at, holding, kitchen

ALL = kitchen().receptacles()
MUG_IN_HAND = holding("mug 1", "countertop 1")
APPLE_IN_HAND = holding("apple 1", "countertop 1")


class Anything(list):
    """An admissible list that has every command, so that only the expert's wish counts."""

    def __contains__(self, command):
        return True


def command(goal, *changes, searched=None):
    return advise(kitchen(*changes), goal, Anything(), searched).command


@pytest.mark.parametrize(
    "goal, changes, expected",
    [
        (LIGHT, (), "go to countertop 1"),  # mug 2 is as good, "cabinet" comes first only for equals
        (LIGHT, at("loc 3"), "take mug 1 from countertop 1"),
        (LIGHT, (*MUG_IN_HAND, *at("loc 1")), "go to countertop 1"),
        (LIGHT, (*MUG_IN_HAND, *at("loc 3")), "use desklamp 1"),
        (HEAT, at("loc 3"), "take apple 1 from countertop 1"),
        (HEAT, (*APPLE_IN_HAND, *at("loc 3")), "go to microwave 1"),
        (HEAT, (*APPLE_IN_HAND, *at("loc 5")), "heat apple 1 with microwave 1"),  # no need to open it
        (HEAT, (*APPLE_IN_HAND, *at("loc 5"), "ishot apple 1"), "go to fridge 1"),
        (HEAT, (*APPLE_IN_HAND, *at("loc 4"), "ishot apple 1"), "open fridge 1"),
        (HEAT, (*APPLE_IN_HAND, *at("loc 4"), "ishot apple 1", "opened fridge 1"), "move apple 1 to fridge 1"),
        (HEAT, (*MUG_IN_HAND, *at("loc 3")), "move mug 1 to countertop 1"),  # the wrong thing in hand
        (HEAT, (*MUG_IN_HAND, *at("loc 4")), "go to countertop 1"),  # a fridge takes no mug here
        (TWO, (*MUG_IN_HAND,), "go to cabinet 10"),  # where the other mug is
        (TWO, at("loc 3"), "take mug 1 from countertop 1"),
        (CLEAN, (*MUG_IN_HAND, *at("loc 6")), "clean mug 1 with sinkbasin 1"),
        (CLEAN, (*MUG_IN_HAND, "isclean mug 1"), "go to cabinet 1"),
    ],
)
def test_one_who_knows_everything(goal, changes, expected):
    if goal is LIGHT and not changes:
        changes = ("-inreceptacle mug 2|cabinet 10",)
    assert command(goal, *changes) == expected


def test_one_who_searches_starts_where_such_things_may_lie():
    assert command(HEAT, searched=()) == "go to countertop 1"  # cabinets and microwave take no apple here
    assert command(HEAT, searched={"countertop 1"}) == "go to countertop 1"  # seen there: go and take it
    assert command(HEAT, *at("loc 3"), searched={"countertop 1"}) == "take apple 1 from countertop 1"


def test_one_who_searches_opens_what_is_closed_and_looks_at_what_is_near_first():
    assert command(SIMPLE, *at("loc 1"), searched=()) == "open cabinet 1"
    assert command(SIMPLE, *at("loc 1"), searched={"cabinet 1"}) == "open cabinet 2"
    assert command(SIMPLE, *at("loc 1"), "opened cabinet 2", searched={"cabinet 1"}) == "examine cabinet 2"


def test_one_who_searches_does_not_know_what_he_has_not_seen():
    searched = set(ALL) - {"cabinet 10", "countertop 1"}
    assert command(SIMPLE, searched=searched) == "go to cabinet 10"
    assert command(LIGHT, *MUG_IN_HAND, searched=searched) == "go to cabinet 10"  # for the lamp, too


def test_older_games_say_put():
    world = kitchen(*APPLE_IN_HAND, *at("loc 4"), "ishot apple 1", "opened fridge 1")
    old = ["look", "put apple 1 in/on fridge 1"]
    assert advise(world, HEAT, old, None).command == "put apple 1 in/on fridge 1"


def test_advice_is_admissible_or_an_error():
    with pytest.raises(ValueError, match="'go to countertop 1'"):
        advise(kitchen(), HEAT, ["look"], None)


@pytest.mark.parametrize(
    "goal, changes, problem",
    [
        (HEAT, ("-inreceptacle apple 1|countertop 1",), "no apple left"),
        (HEAT, (*APPLE_IN_HAND, "-receptacletype microwave 1|microwavetype"), "no Microwave"),
        (HEAT, (*APPLE_IN_HAND, "ishot apple 1", "-receptacletype fridge 1|fridgetype"), "no fridge"),
        (SIMPLE, (*APPLE_IN_HAND, "-cancontain countertoptype|appletype", "-cancontain fridgetype|appletype"), "takes"),
    ],
)
def test_the_impossible_is_named(goal, changes, problem):
    with pytest.raises(ValueError, match=problem):
        command(goal, *changes)
