"""Finding playable games in a folder tree; the same for ALFWorld's own data and for generated scenes.

A game is a folder with `traj_data.json` (what is asked for) and `game.tw-pddl` (the world). Nothing of the
engine is needed to find games.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.alfworld.errors import GameFilesError
from envs.alfworld.goal import TASK_TYPES, Goal

WORLD_FILE, TRAJ_FILE = "game.tw-pddl", "traj_data.json"
UNSUPPORTED = ("movable", "Sliced")
"""Parts of folder names, below the searched folder, of tasks that the text games leave out."""


@dataclass(frozen=True)
class GameFile:
    """One playable game."""

    key: str
    """Folder relative to the searched one, with forward slashes: the game's name on every machine."""
    path: Path
    """Its `game.tw-pddl`."""
    goal: Goal


def find_games(folder: Path) -> list[GameFile]:
    """All solvable games below `folder`, sorted by key.

    Raises:
        GameFilesError: the folder does not exist or holds no such game, or a file cannot be read.
    """
    if not folder.is_dir():
        raise GameFilesError(f"there is no folder {folder} with ALFWorld games; set ALFWORLD_DATA or name another")
    found = [_game(folder, path) for path in folder.rglob(WORLD_FILE) if (path.parent / TRAJ_FILE).is_file()]
    games = sorted(filter(None, found), key=lambda game: game.key)
    if not games:
        raise GameFilesError(
            f"{folder} holds no solvable game; a game is a folder with {TRAJ_FILE} and {WORLD_FILE} in it"
        )
    return games


def select(games: Sequence[GameFile], task_types: Collection[str]) -> list[GameFile]:
    """The games of the given task types, in the same order.

    Raises:
        GameFilesError: a task type is unknown, or there is no such game.
    """
    unknown = sorted(set(task_types) - set(TASK_TYPES))
    if unknown:
        raise GameFilesError(f"unknown ALFWorld task type {unknown[0]!r}; there are {', '.join(TASK_TYPES)}")
    chosen = [game for game in games if game.goal.task_type in task_types]
    if not chosen:
        raise GameFilesError(f"none of {len(games)} games is of the task types {', '.join(task_types) or '(none)'}")
    return chosen


def read_json(path: Path) -> Mapping[str, Any]:
    """The JSON object in a game's file.

    Raises:
        GameFilesError: it is unreadable, no JSON, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GameFilesError(f"cannot read the game file {path}: {error}; fetch or generate it again") from error
    if not isinstance(content, dict):
        raise GameFilesError(f"the game file {path} holds no JSON object; fetch or generate it again")
    return content


def _game(folder: Path, path: Path) -> GameFile | None:
    """The game, or None where it is of an unsupported kind or not known to be solvable."""
    key = path.parent.relative_to(folder).as_posix()
    if any(part in key for part in UNSUPPORTED) or not read_json(path).get("solvable"):
        return None
    data = read_json(path.parent / TRAJ_FILE)
    try:
        return GameFile(key, path, Goal.from_traj_data(data))
    except (KeyError, ValueError, TypeError) as error:
        raise GameFilesError(f"{path.parent / TRAJ_FILE} describes no task: {error}") from error
