from collections import Counter

import numpy as np
import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.errors import GenerationError
from envs.alfworld.goal import LIGHT, TASK_TYPES, TREATMENTS, TWO
from envs.alfworld.household import LAMP_HOMES, ROOMS, affords, contents, rooms_for
from envs.alfworld.scene import Difficulty, draw_layout, place_things

TINY = Difficulty((3, 4), (2, 2))
FULL = Difficulty((16, 30), (20, 36), rooms=4, shared_places=0.5)


def scenes(task_type, difficulty, count=40):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield place_things(rng, draw_layout(rng, task_type, difficulty), difficulty)


@pytest.mark.parametrize("difficulty", [TINY, FULL], ids=["tiny", "full"])
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_every_scene_is_a_sensible_task(task_type, difficulty):
    treatment = TREATMENTS.get(task_type)
    for scene in scenes(task_type, difficulty):
        layout = scene.layout
        kinds, goal = layout.receptacles, layout.receptacle
        targets = [kinds[place] for kind, place in scene.things if kind == layout.target]
        assert layout.room in rooms_for(task_type)
        assert len(targets) == (2 if task_type == TWO else 1)
        assert goal not in targets, "solved, or half solved, from the start"
        assert all(kind == layout.lamp or kind in contents(kinds[place]) for kind, place in scene.things)
        if task_type == LIGHT:
            assert [kinds[place] for kind, place in scene.things if kind == layout.lamp] == [layout.lamp_home]
            assert layout.lamp_home in LAMP_HOMES
        else:
            assert goal in kinds and layout.target in contents(goal)
        if treatment:
            assert treatment.appliance in kinds and goal != treatment.appliance
            assert affords(layout.target, treatment.affordance)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_sizes_are_what_was_asked_for(task_type):
    for scene in scenes(task_type, TINY):
        assert 3 <= len(scene.layout.receptacles) <= 4
        assert sum(kind != scene.layout.lamp for kind, _ in scene.things) == 2
        assert scene.places == tuple(range(len(scene.places)))
    for scene in scenes(task_type, FULL):
        assert len(scene.layout.receptacles) <= 30
        assert 20 <= sum(kind != scene.layout.lamp for kind, _ in scene.things) <= 36
    assert any(len(set(scene.places)) < len(scene.places) for scene in scenes(task_type, FULL, 3))


def test_one_room_is_furnished_like_one_room():
    for scene in scenes("pick_and_place_simple", Difficulty((8, 12), (5, 5))):
        counts = Counter(scene.layout.receptacles)
        assert all(count <= ROOMS[scene.layout.room][kind] for kind, count in counts.items())


def test_the_generator_alone_decides():
    assert list(scenes(LIGHT, FULL, 5)) == list(scenes(LIGHT, FULL, 5))
    assert len(set(scenes(LIGHT, TINY, 20))) > 15


@pytest.mark.parametrize(
    "arguments", [((2, 4), (2, 2)), ((4, 3), (2, 2)), ((3, 4), (1, 2)), ((3, 4), (2, 2), 5), ((3, 4), (2, 2), 1, 1.5)]
)
def test_impossible_sizes_are_refused(arguments):
    with pytest.raises(ValueError, match="is no difficulty"):
        Difficulty(*arguments)


def test_unknown_task_type_is_refused():
    with pytest.raises(GenerationError, match="'juggle'"):
        draw_layout(np.random.default_rng(0), "juggle", TINY)
