from envs.alfworld.thor.notes import Notes

ROOM = (
    "You are in the middle of a room. Looking quickly around you, you see a fridge 1, a sinkbasin 1, and a cabinet 10."
)


def told(*answers):
    """Notes after commands with their answers and the commands listed then."""
    notes = Notes(ROOM)
    for command, text, *admissible in answers:
        notes.learn(command, text, admissible)
    return notes


GO_SINK = (
    "go to sinkbasin 1",
    "You arrive at sinkbasin 1. On the sinkbasin 1, you see a mug 1, a fork 2, and a mug 3.",
)
TAKE = ("take mug 1 from sinkbasin 1", "You pick up the mug 1 from the sinkbasin 1.")
GO_FRIDGE = ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.", "open fridge 1")
OPEN = ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see a egg 1.", "close fridge 1")


def test_at_first_only_receptacles_are_known():
    notes = told()
    world = notes.world()
    assert world.receptacles() == ["cabinet 10", "fridge 1", "sinkbasin 1"]
    assert [name for name in world.receptacles() if world.closed(name)] == ["cabinet 10", "fridge 1"]
    assert world.inside == frozenset() and world.holding is None and notes.searched == set()


def test_what_is_seen_lies_there():
    notes = told(GO_SINK)
    world = notes.world()
    assert world.here == "sinkbasin 1" and notes.searched == {"sinkbasin 1"}
    assert world.inside == {(thing, "sinkbasin 1") for thing in ("mug 1", "fork 2", "mug 3")}
    assert world.things("mug") == ["mug 1", "mug 3"]


def test_a_closed_door_hides_and_an_opened_one_shows():
    assert told(GO_FRIDGE).searched == set() and told(GO_FRIDGE).world().closed("fridge 1")
    notes = told(GO_FRIDGE, OPEN)
    assert notes.searched == {"fridge 1"} and not notes.world().closed("fridge 1")
    assert notes.world().inside == {("egg 1", "fridge 1")}


def test_the_list_of_commands_knows_the_door_better_than_the_sentence():
    answer = ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.", "close fridge 1")
    assert not told(answer).world().closed("fridge 1")


def test_a_thing_is_taken_treated_and_put_elsewhere():
    held = told(GO_SINK, TAKE)
    assert held.world().holding == "mug 1" and held.world().inside == {
        ("fork 2", "sinkbasin 1"),
        ("mug 3", "sinkbasin 1"),
    }
    clean = told(GO_SINK, TAKE, ("clean mug 1 with sinkbasin 1", "You clean the mug 1 using the sinkbasin 1."))
    assert clean.world().having("isclean") == {"mug 1"}
    put = told(GO_SINK, TAKE, GO_FRIDGE, OPEN, ("move mug 1 to fridge 1", "You move the mug 1 to the fridge 1."))
    assert put.world().holding is None and ("mug 1", "fridge 1") in put.world().inside


def test_heat_drives_out_cold():
    notes = told(("cool mug 1 with fridge 1", "You cool the mug 1 using the fridge 1."))
    assert notes.world().having("iscool") == {"mug 1"}
    notes.learn("heat mug 1 with microwave 1", "You heat the mug 1 using the microwave 1.", [])
    assert notes.world().having("iscool") == set() and notes.world().having("ishot") == {"mug 1"}


def test_a_new_look_replaces_the_old_one():
    empty = ("examine sinkbasin 1", "On the sinkbasin 1, you see nothing.")
    assert told(GO_SINK, empty).world().inside == frozenset()


def test_what_was_refused_is_avoided_until_forgiven():
    notes = told(GO_SINK, ("take mug 1 from sinkbasin 1", "Nothing happens."))
    assert notes.world().receptacles() == ["cabinet 10", "fridge 1"]
    notes.forgive()
    assert notes.world().receptacles() == ["cabinet 10", "fridge 1", "sinkbasin 1"] and notes.searched == set()
    assert ("mug 1", "sinkbasin 1") not in notes.world().inside and ("mug 3", "sinkbasin 1") in notes.world().inside
