from envs.alfworld.schematic_layout import GRIDS, Door, Tile, arrange, thing_tile

NOTHING = {"lit": [], "hot": [], "cold": [], "clean": [], "holding": "", "receptacles": [], "room": []}
SPACE = 236


def place(name, *things, openable=False, closed=False):
    return {"name": name, "openable": openable, "closed": closed, "things": list(things)}


def seen(*places, **more):
    return {**NOTHING, "receptacles": list(places), **more}


def test_headers_say_what_can_be_opened():
    view = seen(place("desk 1"), place("safe 1", openable=True), place("box 12", openable=True, closed=True))
    _, sections = arrange(view, SPACE)
    assert [(section.title, section.kind, section.number, section.door) for section in sections] == [
        ("desk 1", "desk", "1", Door.NONE),
        ("safe 1 open", "safe", "1", Door.OPEN),
        ("box 12 closed", "box", "12", Door.CLOSED),
    ]


def test_tiles_bear_class_number_and_states():
    states = {"lit": set(), "hot": {"apple 2"}, "cold": set(), "clean": {"apple 2"}}
    assert thing_tile("apple 2", states) == Tile("apple", "2", "apple 2 hot clean", ("hot", "clean"))
    assert thing_tile("apple 1", states) == Tile("apple", "1", "apple 1")


def test_a_room_counts_receptacles_by_class():
    _, (section,) = arrange(seen(room=["cabinet 1", "cabinet 2", "fridge 1"]), SPACE)
    assert section.door is Door.ROOM
    assert [(tile.kind, tile.number, tile.furniture) for tile in section.tiles] == [
        ("cabinet", "x2", True),
        ("fridge", "", True),
    ]


def test_few_things_are_large_and_many_are_small():
    sizes = [GRIDS.index(arrange(seen(place("desk 1", *"abcdefghijkl"[:n])), SPACE)[0]) for n in (0, 2, 4, 5, 9, 12)]
    assert sizes == sorted(sizes) and sizes[0] == 0 and sizes[-1] > 1


def test_everything_is_there_or_counted():
    for count in range(100):
        grid, (section,) = arrange(seen(place("desk 1", *(f"pen {n}" for n in range(count)))), SPACE)
        last = section.tiles[-1] if section.tiles else Tile("pen", "", "")
        hidden = 0 if last.kind else int(last.number)
        assert len(section.tiles) - (not last.kind) + hidden == count
        assert grid.height([section]) <= SPACE
        assert not hidden or (grid is GRIDS[-1] and count > 20)


def test_the_longest_section_loses_tiles_first():
    full, short = [f"pen {n}" for n in range(40)], ["mug 1", "mug 2"]
    _, (first, second) = arrange(seen(place("desk 1", *full), place("desk 2", *short)), SPACE)
    assert first.tiles[-1].number == "+31" and len(first.tiles) == 10
    assert len(second.tiles) == 2


def test_where_there_is_room_for_headers_alone_they_count():
    drawers = [place(f"drawer {n}", "pen 1", "pen 2", openable=True) for n in range(1, 9)]
    _, sections = arrange(seen(*drawers), SPACE)
    assert [section.title for section in sections] == [f"drawer {n} open, +2 in it" for n in range(1, 9)]
    _, sections = arrange(seen(*drawers, *drawers), SPACE)
    assert len(sections) == 8 and sections[-1].title == "drawer 8 open, +2 in it, +8 more"
