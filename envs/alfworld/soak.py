"""Does a process stay flat over many different games? Resets one environment again and again and reads its memory."""

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.alfworld.cache import cache_folder
from envs.alfworld.game_files import TRAJ_FILE, WORLD_FILE
from envs.alfworld.game_index import forget
from envs.alfworld.goal import TASK_TYPES
from envs.alfworld.problem import traj_file, world_file
from envs.alfworld.scene import Difficulty, draw_layout, place_things
from envs.alfworld.text_env import AlfworldText

HOUSEHOLD = Difficulty((6, 8), (6, 8))
OFFICIAL_SIZE = Difficulty((16, 30), (20, 36), rooms=4, shared_places=0.2)


@dataclass(frozen=True)
class Soak:
    """What `soak` has seen."""

    resets: int
    """All of them into games that were never played before."""
    steps: int
    seconds: float
    """Time of resets and steps, without that of writing the games."""
    rss_bytes: dict[int, int]
    """Number of resets -> resident memory of the process; 0 stands for before the first."""

    def growth_bytes(self, since: int) -> int:
        """Resident memory at the end less that after `since` resets, which must be a measured number of them."""
        return self.rss_bytes[self.resets] - self.rss_bytes[since]


def soak(
    resets: int = 1000,
    steps: int = 5,
    every: int = 100,
    difficulty: Difficulty = HOUSEHOLD,
    seed: int = 0,
    told: Callable[[int, int], None] = lambda resets, rss_bytes: None,
) -> Soak:
    """Play the beginning of `resets` different generated games in one environment of this process.

    The games are not proven to be winnable, which takes no part in what is measured; they live in a temporary
    folder (about 50 kB each).

    Args:
        resets: number of games.
        steps: commands in each, those of the scripted player.
        every: resets between two measurements; there is one before the first reset and one after the last.
        difficulty: size of the households.
        seed: of the games.
        told: called with each measurement.

    Raises:
        ValueError: a number is below 1 (`steps`: below 0).
        OSError: this is no Linux system, which tells a process its memory.
    """
    if min(resets, every) < 1 or steps < 0:
        raise ValueError(f"resets and every must be at least 1 and steps 0, not {resets}, {every} and {steps}")
    with tempfile.TemporaryDirectory(prefix="croupier-soak-") as folder:
        for number in range(resets):
            _write_unproven(Path(folder) / f"game-{number:05d}", number, difficulty, seed)
        env = AlfworldText(games=folder)
        forget(Path(folder), cache_folder())
        rss_bytes = {0: resident_bytes()}
        begun, played = time.perf_counter(), 0
        for number in range(resets):
            played += _play(env, f"game-{number:05d}", steps)
            if (number + 1) % every == 0 or number + 1 == resets:
                rss_bytes[number + 1] = resident_bytes()
                told(number + 1, rss_bytes[number + 1])
        seconds = time.perf_counter() - begun
        env.close()
    return Soak(resets, played, seconds, rss_bytes)


def resident_bytes() -> int:
    """Resident memory of this process, after a collection of garbage.

    Raises:
        OSError: this is no Linux system.
    """
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _play(env: AlfworldText, game: str, steps: int) -> int:
    """Start the game and follow the scripted player; the number of commands given."""
    _, info = env.reset(options={"game": game})
    for step in range(steps):
        _, _, terminated, truncated, info = env.step(info["expert"][0] or "look")
        if terminated or truncated:
            return step + 1
    return steps


def _write_unproven(folder: Path, number: int, difficulty: Difficulty, seed: int) -> None:
    rng = np.random.default_rng([seed, number])
    scene = place_things(rng, draw_layout(rng, TASK_TYPES[number % len(TASK_TYPES)], difficulty), difficulty)
    folder.mkdir()
    (folder / WORLD_FILE).write_text(json.dumps({**world_file(scene), "solvable": True}), encoding="utf-8")
    (folder / TRAJ_FILE).write_text(json.dumps(traj_file(scene)), encoding="utf-8")
