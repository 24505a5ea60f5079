"""Writing panels of games: fixed sets of generated scenes, each won once in the engine before it counts."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from envs.alfworld.engine import TextEngine, borrow, give_back
from envs.alfworld.errors import EngineError, GenerationError
from envs.alfworld.expert import advise
from envs.alfworld.game_files import TRAJ_FILE, WORLD_FILE
from envs.alfworld.goal import TASK_TYPES, Goal
from envs.alfworld.problem import traj_file, world_file
from envs.alfworld.processes import each_in_processes
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

    @property
    def games(self) -> int:
        """Number of games in all splits."""
        return self.train + self.valid_seen + self.valid_unseen


Done = Callable[[int, int], None]
"""Called with the number of games written so far and of all games."""


def write_panel(panel: Panel, folder: Path, workers: int = 1, done: Done = lambda count, total: None) -> str:
    """Generate all games of a panel below `folder`, in the layout of ALFWorld's own data, with a manifest.

    Args:
        panel: what to generate.
        folder: where; made if it is missing.
        workers: processes; the files do not depend on it. More than one imports the caller's main module again
            (Python's "spawn"), which must therefore be guarded by `if __name__ == "__main__"`.
        done: told of every game.

    Returns:
        Digest of all files: SHA-256 in hexadecimal.

    Raises:
        GenerationError: a game could not be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest, games = hashlib.sha256(), []
    done(0, panel.games)
    for written in each_in_processes(partial(_write_game, panel, folder), list(_games(panel)), workers):
        for name, file_digest in written.files.items():
            digest.update(f"{written.game}/{name}\0{file_digest}\n".encode())
        games.append({"game": written.game, "task_type": written.task_type, "steps": written.steps})
        done(len(games), panel.games)
    manifest = {"digest": digest.hexdigest(), "recipe": str(panel), "games": games}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return digest.hexdigest()


@dataclass(frozen=True)
class _Written:
    """A game that is on disk."""

    game: str
    task_type: str
    steps: int
    """Commands of its walkthrough."""
    files: dict[str, str]
    """Name to SHA-256."""


def _write_game(panel: Panel, folder: Path, number: tuple[str, int, int]) -> _Written:
    """Build one game and write its two files."""
    split, index, scene_number = number
    engine = borrow()
    try:
        scene, content = _proven_game(engine, panel, split, index, scene_number, folder)
    finally:
        give_back(engine)
    key = f"{split}/{_group(scene, scene_number)}/trial_{index:04d}"
    target = folder / DATA_FOLDER / key
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, data in ((WORLD_FILE, content), (TRAJ_FILE, traj_file(scene))):
        text = json.dumps(data, indent=1, sort_keys=True)
        (target / name).write_text(text, encoding="utf-8")
        files[name] = hashlib.sha256(text.encode()).hexdigest()
    return _Written(key, scene.layout.task_type, len(content["walkthrough"]), files)


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
    candidate = folder / f"candidate-{split}-{index}-{WORLD_FILE}"
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
