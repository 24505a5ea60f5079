import pytest

from envs.alfworld.view import view
from tests.envs.alfworld.worlds import at, holding, kitchen


def test_in_the_middle_of_the_room_all_receptacles_are_seen():
    seen = view(kitchen())
    assert seen["room"] == kitchen().receptacles() and seen["receptacles"] == []


def test_closed_receptacles_hide_what_is_inside():
    place = {"name": "cabinet 10", "openable": True, "closed": True, "things": []}
    assert view(kitchen(*at("loc 2")))["receptacles"] == [place]
    opened = view(kitchen(*at("loc 2"), "opened cabinet 10"))
    assert opened["receptacles"] == [{**place, "closed": False, "things": ["mug 2"]}]
    assert opened["room"] == []


def test_what_cannot_be_closed_is_told_apart_from_what_is_open():
    assert [item["openable"] for item in view(kitchen(*at("loc 3")))["receptacles"]] == [False]


def test_all_receptacles_at_one_place_are_in_reach():
    assert [item["name"] for item in view(kitchen(*at("loc 1")))["receptacles"]] == ["cabinet 1", "cabinet 2"]


@pytest.mark.parametrize(
    "state, fact", [("lit", "istoggled"), ("hot", "ishot"), ("cold", "iscool"), ("clean", "isclean")]
)
def test_states_of_what_is_visible_are_seen(state, fact):
    facts = [f"{fact} apple 1", f"{fact} mug 1", f"{fact} mug 2"]
    assert view(kitchen(*at("loc 3"), *facts))[state] == ["apple 1", "mug 1"]  # mug 2 is shut away elsewhere
    carried = view(kitchen(*at("loc 2"), *holding("mug 1", "countertop 1"), *facts))
    assert carried["holding"] == "mug 1" and carried[state] == ["mug 1"]
    assert view(kitchen(*facts))[state] == []  # nothing is near in the middle of the room


def test_what_is_shut_away_changes_nothing():
    for place in ((), at("loc 1"), at("loc 2"), at("loc 3")):
        seen = view(kitchen(*place))
        assert view(kitchen(*place, "-inreceptacle mug 2|cabinet 10", "inreceptacle mug 2|cabinet 1")) == seen
        assert view(kitchen(*place, "isclean mug 2", "ishot mug 2")) == seen
