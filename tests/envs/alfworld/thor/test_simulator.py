"""ALFWorld's THOR code, ai2thor's controller and its HTTP server for real, around a fake Unity (`fake_unity.py`).

It proves call order, shapes, wording and goal checking, and nothing about rendering or physics. It runs where ai2thor
is installed, or under the interpreter that CROUPIER_THOR_PYTHON names.
"""

import json
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.game_files import TRAJ_FILE, WORLD_FILE
from envs.alfworld.thor.env import AlfworldThor
from envs.alfworld.thor.state import SimulatorError
from envs.errors import EnvSetupError

LAYOUTS = Path(pytest.importorskip("alfworld.gen").__path__[0]) / "layouts"
PYTHON = sys.executable if find_spec("ai2thor") else os.environ.get("CROUPIER_THOR_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="needs ai2thor, here or under CROUPIER_THOR_PYTHON"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

UNITY = "fake unity.sh"  # the package splits its command at blanks
KITCHEN, LIVING_ROOM, BEDROOM = 14, 202, 304
SCENES = {
    KITCHEN: {"Apple|1": "Cabinet", "Mug|1": "CounterTop", "Mug|2": "Fridge", "Spatula|1": "CounterTop"},
    LIVING_ROOM: {"Pillow|1": "ArmChair", "Box|1": "CoffeeTable"},
    BEDROOM: {"Book|1": "Bed", "DeskLamp|1": "Desk"},
}
TASKS = {
    "pick_and_place_simple": (LIVING_ROOM, "Pillow", "Sofa", ""),
    "look_at_obj_in_light": (BEDROOM, "Book", "", "DeskLamp"),
    "pick_clean_then_place_in_recep": (KITCHEN, "Mug", "Cabinet", ""),
    "pick_heat_then_place_in_recep": (KITCHEN, "Apple", "Fridge", ""),
    "pick_cool_then_place_in_recep": (KITCHEN, "Apple", "CounterTop", ""),
    "pick_two_obj_and_place": (KITCHEN, "Mug", "Cabinet", ""),
}
CONDITIONS = {
    "pick_and_place_simple": [0, 1],
    "look_at_obj_in_light": [0, 0.5, 1],
    "pick_clean_then_place_in_recep": [0, 1 / 3, 1],
    "pick_heat_then_place_in_recep": [0, 1 / 3, 1],
    "pick_cool_then_place_in_recep": [0, 1 / 3, 1],
    "pick_two_obj_and_place": [0, 0.5, 1],
}


def viewpoints(scene):
    return json.loads((LAYOUTS / f"FloorPlan{scene}-openable.json").read_text())


def household(scene):
    """What the fake simulates: the package's own receptacles, and a few things in the first of their kind."""
    places = viewpoints(scene)
    first = {place.split("|")[0]: place for place in sorted(places, reverse=True)}
    fixtures = {"Faucet|1": first["Sink"]} if "Sink" in first else {}
    things = {thing: first[kind] for thing, kind in SCENES[scene].items()}
    return {"viewpoints": places, "things": things, "fixtures": fixtures}


def write_game(folder, task_type):
    scene, target, receptacle, lamp = TASKS[task_type]
    described = {
        "task_type": task_type,
        "pddl_params": {
            "object_target": target,
            "parent_target": receptacle,
            "toggle_target": lamp,
            "mrecep_target": "",
            "object_sliced": False,
        },
        "scene": {
            "floor_plan": f"FloorPlan{scene}",
            "scene_num": scene,
            "object_poses": [],
            "object_toggles": [],
            "dirty_and_empty": False,
            "init_action": {"action": "TeleportFull", "x": 9.0, "y": 0.9, "z": 9.0, "rotation": 0, "horizon": 30},
        },
        "plan": {"high_pddl": [{}, {}], "low_actions": []},
    }
    folder.mkdir(parents=True)
    (folder / TRAJ_FILE).write_text(json.dumps(described))
    (folder / WORLD_FILE).write_text(json.dumps({"solvable": True}))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Environments with the six kinds of task, in front of a fake Unity that misbehaves as asked."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "xdpyinfo").write_text("#!/bin/sh\nexit 0\n")  # stands for an X server: the fake draws nothing
    (tools / "xdpyinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CROUPIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "data"))
    for task_type in TASKS:
        write_game(tmp_path / "games" / task_type, task_type)
    made = []

    def build(scene=KITCHEN, **arguments):
        misbehaviour = {key: arguments.pop(key) for key in ("exit_at", "hang_at") if key in arguments}
        (tmp_path / "household.json").write_text(json.dumps({**household(scene), **misbehaviour}))
        unity = tmp_path / UNITY
        fake = Path(__file__).with_name("fake_unity.py")
        words = map(shlex.quote, (PYTHON, str(fake), str(tmp_path / "household.json")))
        unity.write_text(f"#!/bin/sh\nexec {' '.join(words)}\n")
        unity.chmod(0o755)
        arguments = {"answer_timeout_s": 100.0, "display": ":0.0", **arguments}
        env = AlfworldThor(games=str(tmp_path / "games"), python=PYTHON, unity=str(unity), **arguments)
        made.append(env)
        return env

    yield build
    for env in made:
        env.close()


@pytest.mark.parametrize("scene", SCENES)
def test_the_scripted_player_wins_every_kind_of_task(make, scene):
    env = make(scene)
    for task_type in [name for name, task in TASKS.items() if task[0] == scene]:
        frame, info = env.reset(seed=0, options={"game": task_type})
        conditions, won = [info["goal_condition_success_rate"]], False
        assert frame.shape == (300, 300, 3) and frame.dtype == np.uint8
        while not won:
            command = info["expert"][0]
            assert command in info["admissible_commands"] and "nothing" not in info["expert"][1]
            frame, _, won, truncated, info = env.step(command)
            assert not truncated and info["observation"] != "Nothing happens."
            if info["goal_condition_success_rate"] != conditions[-1]:
                conditions.append(info["goal_condition_success_rate"])
        assert conditions == pytest.approx(CONDITIONS[task_type])


def test_a_heated_apple_step_by_step(make):
    env = make()
    frame, info = env.reset(options={"game": "pick_heat_then_place_in_recep"})
    # The fake draws red above blue, and tells in the red half how many objects are in view: none at the start.
    assert frame[0, 0].tolist() == [255, 0, 0] and frame[-1, -1].tolist() == [0, 0, 255]
    assert "hot" in info["task"] or "heat" in info["task"]
    start = info["admissible_commands"]
    assert start == sorted(set(start)) and {"inventory", "look"} < set(start) and "help" not in start
    steps = {}
    for command in (
        "go to cabinet 1",
        "open cabinet 1",
        "take apple 1 from cabinet 1",
        "go to microwave 1",
        "heat apple 1 with microwave 1",
        "go to fridge 1",
        "open fridge 1",
        "move apple 1 to fridge 1",
    ):
        assert command in info["admissible_commands"], (command, info["admissible_commands"])
        frame, reward, won, _, info = env.step(command)
        steps[command] = (info["observation"], round(reward, 4), won)
    assert steps == {
        "go to cabinet 1": ("You arrive at cabinet 1. The cabinet 1 is closed.", 0.0, False),
        "open cabinet 1": ("You open the cabinet 1. The cabinet 1 is open. In it, you see a apple 1.", 0.0, False),
        "take apple 1 from cabinet 1": ("You pick up the apple 1 from the cabinet 1.", 0.0, False),
        "go to microwave 1": ("You arrive at microwave 1. The microwave 1 is closed.", 0.0, False),
        "heat apple 1 with microwave 1": ("You heat the apple 1 using the microwave 1.", 0.3333, False),
        "go to fridge 1": ("You arrive at fridge 1. The fridge 1 is closed.", 0.0, False),
        "open fridge 1": ("You open the fridge 1. The fridge 1 is open. In it, you see a mug 1.", 0.0, False),
        "move apple 1 to fridge 1": ("You move the apple 1 to the fridge 1.", 50.6667, True),
    }
    assert frame[0, 0].tolist() == [255, 0, 3]


def test_an_open_door_does_not_spoil_heating(make):
    env = make()
    env.reset(options={"game": "pick_heat_then_place_in_recep"})
    for command in ("go to cabinet 1", "open cabinet 1", "take apple 1 from cabinet 1", "go to microwave 1"):
        env.step(command)
    info = env.step("open microwave 1")[4]
    assert "close microwave 1" in info["admissible_commands"] and "open microwave 1" not in info["admissible_commands"]
    info = env.step("heat apple 1 with microwave 1")[4]
    assert info["observation"] == "You heat the apple 1 using the microwave 1."
    assert info["goal_condition_success_rate"] == pytest.approx(1 / 3)
    assert "open microwave 1" in info["admissible_commands"]


def test_a_game_has_one_wording_and_one_course(make):
    env = make(BEDROOM)
    games = [env.reset(options={"game": "look_at_obj_in_light"})[1] for _ in range(2)]
    env.close()
    games.append(env.reset(options={"game": "look_at_obj_in_light"})[1])
    assert all(info == games[0] for info in games)


def test_viewpoints_known_beforehand_are_not_explored(make, tmp_path):
    known = {
        place: {
            "object_id": place,
            "object_type": place.split("|")[0],
            "locs": {"action": "TeleportFull", "x": x, "y": 0.9, "z": z, "rotation": rotation, "horizon": horizon},
            "num_pixels": 1,
            "num_id": f"{place.split('|')[0].lower()} {number}",
            "closed": None,
        }
        for number, (place, (x, z, rotation, horizon)) in enumerate(viewpoints(BEDROOM).items(), start=7)
    }
    (tmp_path / "games" / "look_at_obj_in_light" / "receps.json").write_text(json.dumps(known))
    env = make(BEDROOM)
    info = env.reset(options={"game": "look_at_obj_in_light"})[1]
    assert info["room"].endswith("you see a bed 7, a bed 8, and a desk 9.")
    assert env.step("go to desk 9")[4]["observation"] == "You arrive at desk 9. On the desk 9, you see a desklamp 1."


def test_unity_that_does_not_start_is_an_error_at_once(make, tmp_path):
    env = make()
    (tmp_path / UNITY).write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SimulatorError, match="(?s)not able to get ready: .* exited with 1.*X server with GL"):
        env.reset()


def test_a_unity_that_dies_is_an_error_at_once_and_is_replaced(make):
    env = make(BEDROOM, exit_at="PickupObject", answer_timeout_s=60.0)
    _, info = env.reset(options={"game": "look_at_obj_in_light"})
    env.step("go to bed 1")
    with pytest.raises(SimulatorError, match="not able to answer 'take book 1 from bed 1' .* exited with 1"):
        env.step("take book 1 from bed 1")
    assert env.reset(options={"game": "look_at_obj_in_light"})[1] == info


def test_a_unity_that_hangs_is_given_up(make):
    env = make(BEDROOM, hang_at="PickupObject", answer_timeout_s=30.0)
    env.reset(options={"game": "look_at_obj_in_light"})
    env.step("go to bed 1")
    with pytest.raises(SimulatorError, match="waited 30 s for the simulator to answer 'take book 1 from bed 1'"):
        env.step("take book 1 from bed 1")


def test_an_interpreter_without_the_packages_says_what_to_install(make, tmp_path, monkeypatch):
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'ai2thor' else find(name, *rest)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hide"))
    with pytest.raises(EnvSetupError, match=r"(?s)pip install 'alfworld\[vis\]==0.4.2'.*missing is ai2thor"):
        make().reset()
