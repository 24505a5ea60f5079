"""What runs inside the processes that measure ALFWorld; `envs_alfworld` calls these functions from outside.

The text engine patches its library when it is imported, overwrites sys.argv and keeps memory until its process ends:
all that stays in here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil

import envs
from cluster.bench.envs_play import play_expert
from cluster.bench.timing import Stopwatch, clock
from envs.base import TaskAdapter

SCHEMATIC = "alfworld/Schematic-v0"
_MIB = 1 << 20


def without_parse_cache() -> None:
    """Prepare a process whose engine parses every template anew; past games are forgotten all the same.

    Must run before the engine is imported.
    """
    from envs.alfworld import parse_cache

    def forget() -> None:
        parse_cache.propositions().clear()

    parse_cache.install = lambda: forget


def is_there(panel: str) -> bool:
    """Whether a named panel has been generated."""
    from envs.alfworld.panels import is_generated, panel_home

    return is_generated(panel_home(panel))


def train_folder(panel: str) -> str:
    """Folder with the training games of a named panel, generated on first use."""
    from envs.alfworld.sources import games_folder

    return str(games_folder(panel, "train"))


def write_small_panel(folder: str) -> str:
    """Generate three games below `folder`; returns where they are."""
    from envs.alfworld.generator import DATA_FOLDER, Panel, write_panel
    from envs.alfworld.scene import Difficulty

    write_panel(Panel(Difficulty((3, 4), (2, 2)), train=3, valid_seen=0, valid_unseen=0), Path(folder))
    return str(Path(folder) / DATA_FOLDER / "train")


def play_games(games: str, seed: int, episodes: int, steps: int) -> dict[str, float]:
    """Random play of `episodes` games, at most `steps` commands each, then the same commands in the engine alone.

    Returns:
        CPU milliseconds per reset and step of the environment ("reset", "step") and of the engine alone ("engine
        start", "engine step").
    """
    from envs.alfworld.engine import borrow, give_back

    env, adapter = _make(games)
    rng = np.random.default_rng(seed)
    watches = {name: Stopwatch() for name in ("reset", "step", "engine start", "engine step")}
    engine = borrow()
    for episode in range(episodes):
        commands = []
        with watches["reset"]:
            _, info = env.reset(seed=seed if episode == 0 else None)
        path = Path(info["extra.gamefile"])
        for _ in range(steps):
            legal = adapter.legal_actions(info)
            commands.append(adapter.env_action(legal[int(rng.integers(len(legal)))], info))
            with watches["step"]:
                _, _, terminated, truncated, info = env.step(commands[-1])
            if terminated or truncated:
                break
        with watches["engine start"]:
            engine.start(path)
        for command in commands:
            with watches["engine step"]:
                engine.send(command)
    give_back(engine)
    return {name: 1e3 * watch.mean_s for name, watch in watches.items()}


def play_adapter(games: str, env_id: str, seed: int, steps: int) -> dict[str, float]:
    """What the language side costs, see `play_expert`."""
    env, adapter = _make(games, env_id)
    return play_expert(env, adapter, seed, steps)


def use_memory(games: str, further: int) -> dict[str, float]:
    """Resident memory (MiB) of a new process, growing: "imported", "one env", and "further env" on average.

    Also "first observation": CPU seconds that the process has spent until it had one.
    """
    process = psutil.Process()

    def resident() -> float:
        return process.memory_info().rss / _MIB

    made = [envs.make(SCHEMATIC, games=games)[0]]
    imported = resident()
    made[0].reset(seed=0)
    first_observation_s = clock()
    one = resident()
    for _ in range(further):
        made.append(envs.make(SCHEMATIC, games=games)[0])
        made[-1].reset(seed=0)  # the same game: only what an environment needs for itself is added
    more = resident()
    return {
        "imported": imported,
        "one env": one,
        "further env": (more - one) / further,
        "first observation": first_observation_s,
    }


def soak_memory(resets: int, official_size: bool) -> dict[int, float]:
    """Resident memory (MiB) of a new process by the number of different games that it has played."""
    from envs.alfworld.soak import HOUSEHOLD, OFFICIAL_SIZE, soak

    difficulty = OFFICIAL_SIZE if official_size else HOUSEHOLD
    seen = soak(resets, every=max(1, resets // 10), difficulty=difficulty)
    return {count: rss_bytes / _MIB for count, rss_bytes in seen.rss_bytes.items()}


def scan_games(games: str) -> dict[str, float]:
    """CPU milliseconds to find the games of a folder: "read" from their files, and from an "index" made before."""
    from envs.alfworld.game_files import find_games
    from envs.alfworld.game_index import indexed

    folder = Path(games)
    with tempfile.TemporaryDirectory() as empty:
        read_s, found = _timed(lambda: find_games(folder))
        indexed(folder, Path(empty), find_games)
        index_s, again = _timed(lambda: indexed(folder, Path(empty), _refuse))
    assert found == again
    return {"read": 1e3 * read_s, "index": 1e3 * index_s, "games": len(found)}


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began_s = clock()
    value = call()
    return clock() - began_s, value


def _refuse(folder: Path) -> Any:
    raise AssertionError(f"the index of {folder} was not used")


@cache
def _make(games: str, env_id: str = SCHEMATIC) -> tuple[gymnasium.Env, TaskAdapter]:
    """One environment per kind and folder: an engine is never given back to the system."""
    return envs.make(env_id, games=games)
