"""A memory of which games a folder holds, since reading ALFWorld's 3,553 training games takes many seconds.

The index bears the digest of the folder's listing (paths, sizes, times of change), so it never outlives a change;
it is only ever an optimisation, and a folder that cannot be written or a damaged index just means reading again.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from envs.alfworld.game_files import TRAJ_FILE, WORLD_FILE, GameFile
from envs.alfworld.goal import Goal


def indexed(folder: Path, cache: Path, scan: Callable[[Path], list[GameFile]]) -> list[GameFile]:
    """What `scan(folder)` returns, from the index below `cache` if the folder is as it was then."""
    index = _index(folder, cache)
    games = _read(index, folder)
    if games is None:
        games = scan(folder)
        _write(index, games)
    return games


def forget(folder: Path, cache: Path) -> None:
    """Remove the index of a folder that is about to go away."""
    _index(folder, cache).unlink(missing_ok=True)


def _index(folder: Path, cache: Path) -> Path:
    return cache / f"index-{_listing_digest(folder)}.json"


def _listing_digest(folder: Path) -> str:
    lines = []
    for path, _, names in os.walk(folder):
        for name in {WORLD_FILE, TRAJ_FILE} & set(names):
            stat = os.stat(os.path.join(path, name))
            lines.append(f"{path}/{name}\0{stat.st_size}\0{stat.st_mtime_ns}")
    return hashlib.sha256("\n".join([str(folder.resolve()), *sorted(lines)]).encode()).hexdigest()[:16]


def _read(index: Path, folder: Path) -> list[GameFile] | None:
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
        return [GameFile(row["key"], folder / row["key"] / WORLD_FILE, Goal(**row["goal"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(index: Path, games: list[GameFile]) -> None:
    """Under a temporary name first: other processes may be reading."""
    rows = [{"key": game.key, "goal": asdict(game.goal)} for game in games]
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=index.name, dir=index.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(rows, file)
        os.replace(name, index)
    except OSError:
        return
