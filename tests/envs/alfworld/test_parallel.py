"""Many environments at once, in threads and in processes: each plays as if it were alone."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.game_files import find_games
from envs.alfworld.generator import DATA_FOLDER
from envs.alfworld.text_env import AlfworldText

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.usefixtures("own_cache")]

STEPS = 6

CHILD = """
import sys
from tests.envs.alfworld.test_parallel import play_all
print(play_all(sys.argv[1]))
"""


def play(folder, game):
    """All that one game says to its player."""
    env = AlfworldText(games=str(folder))
    text, info = env.reset(options={"game": game})
    heard = [text, *info["admissible_commands"]]
    for _ in range(STEPS):
        text, reward, terminated, truncated, info = env.step(info["expert"][0] or "look")
        heard += [text, str(reward), *info["admissible_commands"]]
        if terminated or truncated:
            break
    env.close()
    return heard


def play_all(folder):
    """Digest of what all games below a folder say, one after the other."""
    heard = [play(folder, game.key) for game in find_games(Path(folder))]
    return hashlib.sha256(repr(heard).encode()).hexdigest()


def test_threads_do_not_disturb_each_other(tree):
    folder = tree / DATA_FOLDER / "train"
    games = [game.key for game in find_games(folder)] * 2
    alone = [play(folder, game) for game in games[: len(games) // 2]] * 2
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda game: play(folder, game), games, timeout=200))
    assert together == alone


def test_processes_at_the_same_time_say_the_same(tree):
    folder = tree / DATA_FOLDER / "train"
    command = [sys.executable, "-c", CHILD, str(folder)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        digests = {child.communicate(timeout=200)[0].strip() for child in children}
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert digests == {play_all(folder)}
