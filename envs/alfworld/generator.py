"""Writing panels of games: fixed sets of generated scenes, each won once in the engine before it counts."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.alfworld.engine import TextEngine, borrow, give_back
from envs.alfworld.errors import EngineError, GenerationError
from envs.alfworld.expert import advise
from envs.alfworld.game_files import TRAJ_FILE, WORLD_FILE
from envs.alfworld.goal import TASK_TYPES, Goal
from envs.alfworld.problem import traj_file, world_file
from envs.alfworld.scene import Difficulty, Scene, draw_layout, place_things

DATA_FOLDER, MANIFEST_FILE = "json_2.1.1", "manifest.json"
SPLITS = ("train", "valid_seen", "valid_unseen")

_ATTEMPTS = 5
_LONGEST_PROOF_STEPS = 60


@dataclass(frozen=True)
class Panel:
    """Recipe of a fixed set of games; equal recipes give equal files."""

    difficulty: Difficulty
    train: int
    """Games to learn from; a multiple of six gives every task type the same number."""
    valid_seen: int
    """Games in layouts that occur in training, with other things in other places."""
    valid_unseen: int
    """Games in layouts of their own."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.valid_seen <= self.train or self.train < 1 or self.valid_unseen < 0 or self.seed < 0:
            raise ValueError(f"{self} is no panel: it needs train >= 1, 0 <= valid_seen <= train, the rest >= 0")


def write_panel(panel: Panel, folder: Path) -> str:
    """Generate all games of a panel below `folder`, in the layout of ALFWorld's own data, with a manifest.

    Returns:
        Digest of all files: SHA-256 in hexadecimal.

    Raises:
        GenerationError: a game could not be built.
    """
    engine = borrow()
    digest = hashlib.sha256()
    games = []
    for split, index, scene_number in _games(panel):
        scene, content = _proven_game(engine, panel, split, index, scene_number, folder)
        key = f"{split}/{_group(scene, scene_number)}/trial_{index:04d}"
        target = folder / DATA_FOLDER / key
        target.mkdir(parents=True, exist_ok=True)
        for name, data in ((WORLD_FILE, content), (TRAJ_FILE, traj_file(scene))):
            text = json.dumps(data, indent=1, sort_keys=True)
            (target / name).write_text(text, encoding="utf-8")
            digest.update(f"{key}/{name}\0{hashlib.sha256(text.encode()).hexdigest()}\n".encode())
        games.append({"game": key, "task_type": scene.layout.task_type, "steps": len(content["walkthrough"])})
    manifest = {"digest": digest.hexdigest(), "recipe": str(panel), "games": games}
    give_back(engine)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return digest.hexdigest()


def solve(engine: TextEngine, path: Path, goal: Goal) -> list[str]:
    """Commands with which a player who knows everything wins the game.

    Raises:
        EngineError: the engine cannot play it.
        GenerationError: the player does not win, or not within a bounded number of commands.
    """
    state, commands = engine.start(path), []
    while not state.won:
        if len(commands) == _LONGEST_PROOF_STEPS:
            raise GenerationError(f"{path} was not won within {_LONGEST_PROOF_STEPS} commands: {commands}")
        try:
            commands.append(advise(state.world, goal, state.admissible, None).command)
        except ValueError as error:
            raise GenerationError(f"{path} cannot be won: {error}") from error
        state = engine.send(commands[-1])
    return commands


def _games(panel: Panel) -> Iterator[tuple[str, int, int]]:
    """(split, number within the split, number of the layout) of every game."""
    for index in range(panel.train):
        yield "train", index, index
    for index in range(panel.valid_seen):
        yield "valid_seen", index, index
    for index in range(panel.valid_unseen):
        yield "valid_unseen", index, panel.train + index


def _proven_game(
    engine: TextEngine, panel: Panel, split: str, index: int, scene_number: int, folder: Path
) -> tuple[Scene, dict[str, Any]]:
    """A scene and its world file, with the commands that won it; `folder` holds the candidate meanwhile."""
    # A layout depends on its number alone, so that "seen" games find the training game's layout again.
    task_type = TASK_TYPES[index % len(TASK_TYPES)]
    layout = draw_layout(np.random.default_rng([panel.seed, scene_number]), task_type, panel.difficulty)
    candidate = folder / f"candidate-{WORLD_FILE}"
    candidate.parent.mkdir(parents=True, exist_ok=True)
    failure: Exception | None = None
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([panel.seed, scene_number, SPLITS.index(split) + 1, attempt])
        scene = place_things(rng, layout, panel.difficulty)
        content = world_file(scene)
        candidate.write_text(json.dumps(content), encoding="utf-8")
        try:
            walkthrough = solve(engine, candidate, Goal.from_traj_data(traj_file(scene)))
        except (EngineError, GenerationError) as error:
            failure = error
            continue
        finally:
            candidate.unlink()
        if walkthrough:  # a game that is won before its first command is none
            return scene, {**content, "solvable": True, "walkthrough": walkthrough}
    raise GenerationError(
        f"no {task_type} game came out of layout {scene_number} of {panel} in {_ATTEMPTS} attempts; last: {failure}"
    )


def _group(scene: Scene, scene_number: int) -> str:
    layout = scene.layout
    return f"{layout.task_type}-{layout.target}-None-{layout.receptacle or layout.lamp}-{scene_number}"
