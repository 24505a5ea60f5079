"""Finding playable games in a folder tree; the same for ALFWorld's own data and for generated scenes.

A game is a folder with `traj_data.json` (what is asked for) and `game.tw-pddl` (the world). Nothing of the
engine is needed to find games.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from envs.alfworld.errors import GameFilesError
from envs.alfworld.goal import TASK_TYPES, Goal

WORLD_FILE, TRAJ_FILE = "game.tw-pddl", "traj_data.json"
MOVABLE = "pick_and_place_with_movable_recep"
"""ALFRED's seventh task type."""
UNSUPPORTED = ("movable", "Sliced")
"""Parts of folder names of tasks that the text games leave out. ALFWorld's own loader looks for them in the whole
path and so leaves out everything below a folder that happens to be called so; here only the path below the searched
folder counts."""


class Skipped(Enum):
    """Why a folder with a game's file is no game."""

    UNSUPPORTED = "movable receptacle or sliced thing"
    UNPROVEN = "not marked as solvable"
    INCOMPLETE = f"{TRAJ_FILE} is missing"


@dataclass(frozen=True)
class GameFile:
    """One playable game."""

    key: str
    """Folder relative to the searched one, with forward slashes: the game's name on every machine."""
    path: Path
    """Its `game.tw-pddl`."""
    goal: Goal


@dataclass(frozen=True)
class Scan:
    """What a folder tree holds."""

    games: tuple[GameFile, ...]
    """Sorted by key."""
    skipped: Mapping[Skipped, int]
    """How many folders were passed over, for every reason that occurred."""


def scan(folder: Path) -> Scan:
    """All solvable games below `folder`, and how many were passed over; folders without a game count as nothing.

    Raises:
        GameFilesError: the folder does not exist, or a file cannot be read.
    """
    if not folder.is_dir():
        raise GameFilesError(f"there is no folder {folder} with ALFWorld games; set ALFWORLD_DATA or name another")
    found = [_game(folder, path) for path in folder.rglob(WORLD_FILE)]
    games = sorted((game for game in found if isinstance(game, GameFile)), key=lambda game: game.key)
    return Scan(tuple(games), Counter(reason for reason in found if isinstance(reason, Skipped)))


def find_games(folder: Path) -> list[GameFile]:
    """The games of `scan`.

    Raises:
        GameFilesError: as for `scan`, or there is no game at all.
    """
    result = scan(folder)
    if not result.games:
        reasons = ", ".join(f"{count} x {reason.value}" for reason, count in result.skipped.items()) or "none at all"
        raise GameFilesError(
            f"{folder} holds no solvable game (passed over: {reasons}); a game is a folder with {TRAJ_FILE} and a "
            f"{WORLD_FILE} that is marked as solvable"
        )
    return list(result.games)


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


def _game(folder: Path, path: Path) -> GameFile | Skipped:
    """The game, or why it is none. The file that says it most cheaply is asked first."""
    key = path.parent.relative_to(folder).as_posix()
    if any(part in key for part in UNSUPPORTED):
        return Skipped.UNSUPPORTED
    if not (path.parent / TRAJ_FILE).is_file():
        return Skipped.INCOMPLETE
    if not read_json(path).get("solvable"):
        return Skipped.UNPROVEN
    data = read_json(path.parent / TRAJ_FILE)
    try:
        if _beyond_text(data):
            return Skipped.UNSUPPORTED
        return GameFile(key, path, Goal.from_traj_data(data))
    except (KeyError, ValueError, TypeError) as error:
        raise GameFilesError(f"{path.parent / TRAJ_FILE} describes no task: {error}") from error


def _beyond_text(data: Mapping[str, Any]) -> bool:
    """True for tasks with a movable receptacle or a slice, whatever their folder is called."""
    params = data["pddl_params"]
    movable = data["task_type"] == MOVABLE or bool(params.get("mrecep_target"))
    return movable or bool(params.get("object_sliced"))
