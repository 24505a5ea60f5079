"""ALFWorld's own data, where this machine holds it: `croupier alfworld fetch`."""

from collections import Counter

import pytest

pytest.importorskip("alfworld", reason="needs the extra croupier[alfworld]")

from envs.alfworld.engine import borrow, give_back
from envs.alfworld.expert import advise
from envs.alfworld.game_files import scan
from envs.alfworld.generator import DATA_FOLDER
from envs.alfworld.goal import TASK_TYPES
from envs.alfworld.search import Search
from envs.alfworld.sources import OFFICIAL_COUNTS, official_folder

DATA = official_folder() / DATA_FOLDER
PLAYED = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not all((DATA / split).is_dir() for split in OFFICIAL_COUNTS),
        reason=f"needs ALFWorld's own data in {DATA}: run `croupier alfworld fetch`, or set ALFWORLD_DATA",
    ),
]


@pytest.mark.parametrize("split", OFFICIAL_COUNTS)
def test_the_games_are_as_many_as_the_authors_count(split):
    found = scan(DATA / split)
    assert len(found.games) == OFFICIAL_COUNTS[split], found.skipped
    assert set(Counter(game.goal.task_type for game in found.games)) == set(TASK_TYPES)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_the_searching_player_wins(task_type):
    games = [game for game in scan(DATA / "valid_unseen").games if game.goal.task_type == task_type]
    engine = borrow()
    for game in games[:: max(1, len(games) // PLAYED)][:PLAYED]:
        state, search = engine.start(game.path), Search()
        for _ in range(150):
            command = advise(state.world, game.goal, state.admissible, search.searched).command
            state = engine.send(command)
            search.learn(command, state.world)
            if state.won:
                break
        assert state.won, game.key
    give_back(engine)
