"""Trees like ALFWorld's own data of 2020, made from generated games by replacing text; no official file is used.

Differences, as far as they matter to a reader: "put X in/on Y", arrivals that name a location, no "help", ids made of
coordinates, class names declared as objects, furniture that is in no receptacle, no walkthrough, `plan` and other
files beside the game.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.alfworld.game_files import TRAJ_FILE, WORLD_FILE

_WORDING = {
    "You arrive at {r.name}.": "You arrive at {lend.name}.",
    "move {o} to {r}": "put {o} in/on {r}",
    "You move the {o.name} to the {r.name}.": "You put the {o.name} in/on the {r.name}.",
}
_ID = re.compile(r"_bar_(\d\d)(\d)\b")
_STRAYS = ("Chair", "LightSwitch")


def age_world(world: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a `game.tw-pddl` as it would have been written in 2020."""
    grammar = world["grammar"].partition("action help")[0]
    for new, old in _WORDING.items():
        assert new in grammar, new
        grammar = grammar.replace(new, old)
    domain, action, _ = world["pddl_domain"].partition("(:action help")
    assert action
    return {
        "pddl_domain": f"{domain})",
        "grammar": grammar,
        "pddl_problem": _age_problem(world["pddl_problem"]),
        "solvable": world["solvable"],
    }


def age_tree(source: Path, target: Path) -> None:
    """Copy the games below `source`, aged, with what else lies about in the official folders."""
    for world in sorted(source.rglob(WORLD_FILE)):
        folder = target / world.parent.relative_to(source)
        folder.mkdir(parents=True)
        (folder / WORLD_FILE).write_text(json.dumps(age_world(json.loads(world.read_text()))))
        traj = json.loads((world.parent / TRAJ_FILE).read_text())
        plan = {"plan": {"high_pddl": [], "low_actions": []}, "scene": {"floor_plan": "FloorPlan1"}, "images": []}
        (folder / TRAJ_FILE).write_text(json.dumps({**traj, **plan, "turk_annotations": {"anns": []}}))
        (folder / "initial_state.pddl").write_text("(define (problem plan_1))")
        (folder / "receps.json").write_text("{}")
        (folder / "raw_images").mkdir()


def _age_problem(problem: str) -> str:
    problem = _ID.sub(r"_bar__plus_\1_dot_0\2_bar__minus_00_dot_9\2", problem)
    kinds = sorted(set(re.findall(r"\(objectType \w+ (\w+)Type\)", problem)))
    declared = [f"{kind} - object" for kind in kinds]
    facts = []
    for number, kind in enumerate(_STRAYS):
        name = f"{kind}_bar__plus_07_dot_0{number}_bar__minus_00_dot_10"
        declared += [f"{name} - object", f"{kind}Type - otype"]
        facts.append(f"(objectType {name} {kind}Type)")
    problem = problem.replace("(:objects", "\n".join(["(:objects", *declared]), 1)
    return problem.replace("(:init", "\n".join(["(:init", *facts]), 1)
