"""Writing a scene as the content of genuine ALFWorld game files."""

from typing import Any

from envs.alfworld.goal import TREATMENTS
from envs.alfworld.household import OPENABLE, affords, contents, domain, goal_pddl, grammar, task_sentences
from envs.alfworld.scene import Scene

_BASINS = {"SinkBasin": "Sink", "BathtubBasin": "Bathtub"}
_START = "loc_bar_start"  # the agent starts away from all furniture, else the first text lists none


def world_file(scene: Scene) -> dict[str, Any]:
    """Content of `game.tw-pddl`, not yet marked as solvable."""
    layout = scene.layout
    names = (layout.task_type, layout.target, layout.receptacle, layout.lamp)
    sentences = task_sentences(*names)
    return {
        "pddl_domain": domain(),
        "grammar": grammar(sentences[scene.wording % len(sentences)]),
        "pddl_problem": _problem(scene, goal_pddl(*names)),
    }


def traj_file(scene: Scene) -> dict[str, Any]:
    """Content of `traj_data.json`, as far as the text games read it."""
    layout = scene.layout
    return {
        "task_type": layout.task_type,
        "pddl_params": {
            "object_target": layout.target,
            "parent_target": layout.receptacle,
            "toggle_target": layout.lamp,
            "mrecep_target": "",
            "object_sliced": False,
        },
    }


def _problem(scene: Scene, goal: str) -> str:
    receptacles = [_receptacle_id(kind, index) for index, kind in enumerate(scene.layout.receptacles)]
    things = [f"{kind}_bar_{index:03d}" for index, (kind, _) in enumerate(scene.things)]
    kinds = sorted({kind for kind, _ in scene.things})
    places = sorted(set(scene.places))
    objects = [
        "agent1 - agent",
        *(f"{name} - receptacle" for name in receptacles),
        *(f"{name} - object" for name in things),
        *(f"{name} - location" for name in [_START, *map(_location, places)]),
        *(f"{kind}Type - otype" for kind in kinds),
        *(f"{kind}Type - rtype" for kind in sorted(set(scene.layout.receptacles))),
    ]
    facts = [f"(atLocation agent1 {_START})", *_furniture(scene, receptacles), *_belongings(scene, things, receptacles)]
    facts += [
        f"(canContain {place}Type {kind}Type)"
        for place in sorted(set(scene.layout.receptacles))
        for kind in kinds
        if kind in contents(place)
    ]
    lines = ["(define (problem plan_scene)", "(:domain alfred)", "(:objects", *objects, ")", "(:init", *facts, ")"]
    return "\n".join([*lines, goal.strip()])


def _furniture(scene: Scene, names: list[str]) -> list[str]:
    facts = []
    for name, kind, place in zip(names, scene.layout.receptacles, scene.places, strict=True):
        facts += [f"(receptacleType {name} {kind}Type)", f"(receptacleAtLocation {name} {_location(place)})"]
        facts += [f"(openable {name})"] if kind in OPENABLE else []
    return facts


def _belongings(scene: Scene, names: list[str], receptacles: list[str]) -> list[str]:
    facts = []
    for name, (kind, index) in zip(names, scene.things, strict=True):
        place = _location(scene.places[index])
        facts += [f"(objectType {name} {kind}Type)", f"(inReceptacle {name} {receptacles[index]})"]
        facts += [f"(objectAtLocation {name} {place})"]
        facts += [f"(toggleable {name})"] if kind == scene.layout.lamp else [f"(pickupable {name})"]
        for treatment in TREATMENTS.values():
            if affords(kind, treatment.affordance):
                facts.append(f"({treatment.affordance.lower()} {name})")
    return facts


def _receptacle_id(kind: str, index: int) -> str:
    # "_bar_" separates the class from the rest; the engine derives displayed names from it, basins as a suffix.
    return f"{_BASINS[kind]}_bar_{index:03d}_bar_{kind}" if kind in _BASINS else f"{kind}_bar_{index:03d}"


def _location(place: int) -> str:
    return f"loc_bar_{place:03d}"
