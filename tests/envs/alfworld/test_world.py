import pytest

from envs.alfworld.world import World, natural
from tests.envs.alfworld.worlds import holding, kitchen


def test_names_come_in_natural_order():
    assert kitchen().receptacles("cabinet") == ["cabinet 1", "cabinet 2", "cabinet 10"]
    assert sorted(["mug 10", "mug 2", "apple 3", "sink"], key=natural) == ["apple 3", "mug 2", "mug 10", "sink"]
    assert len(kitchen().receptacles()) == 7


def test_what_is_held_lies_nowhere():
    world = kitchen(*holding("mug 1", "countertop 1"))
    assert kitchen().holding is None
    assert world.holding == "mug 1"
    assert "mug 1" not in dict(world.inside)


def test_a_receptacle_is_closed_until_it_is_opened():
    assert kitchen().closed("fridge 1")
    assert not kitchen("opened fridge 1").closed("fridge 1")
    assert not kitchen().closed("countertop 1")


def test_containment_goes_by_class():
    assert kitchen().can_contain("cabinet 10", "mug")
    assert not kitchen().can_contain("cabinet 10", "apple")


def test_places_of_receptacles():
    assert kitchen().place_of("cabinet 2") == "loc 1"
    assert kitchen().place_of("wardrobe 1") is None


@pytest.mark.parametrize("changes, count", [(["-atlocation agent1|loc start"], 0), (["atlocation agent1|loc 1"], 2)])
def test_an_agent_is_at_one_location(changes, count):
    with pytest.raises(ValueError, match=f"name {count} locations"):
        kitchen(*changes)


def test_a_world_is_a_value():
    assert kitchen() == kitchen() != kitchen("isclean mug 1")
    assert isinstance(kitchen(), World)
