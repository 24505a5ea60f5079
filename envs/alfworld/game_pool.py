"""The games of one environment, from which its episodes are drawn."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from envs.alfworld.cache import cache_folder
from envs.alfworld.game_files import GameFile, find_games, select
from envs.alfworld.game_index import indexed
from envs.alfworld.sources import games_folder
from envs.errors import ResetOptionsError


class GamePool:
    """Found once, in the sorted order of their keys, so that a seed means the same games on every machine."""

    def __init__(self, games: str, split: str, task_types: Collection[str]) -> None:
        """Find the games; the arguments are those of the environments.

        Raises:
            envs.alfworld.errors.GameFilesError: there are no such games.
        """
        self.games = select(indexed(games_folder(games, split), cache_folder(), find_games), task_types)
        self._by_key = {game.key: game for game in self.games}

    def choose(self, options: Mapping[str, Any] | None, rng: np.random.Generator) -> GameFile:
        """A game drawn at random, or the one that the options of `reset` name.

        Raises:
            envs.errors.ResetOptionsError: the options are unknown, or name no game of the pool.
        """
        wanted = dict(options or {})
        unknown = sorted(set(wanted) - {"game"})
        if unknown:
            raise ResetOptionsError(f"reset option {unknown[0]!r} is unknown; there is only 'game'")
        if not wanted:
            return self.games[int(rng.integers(len(self.games)))]
        if wanted["game"] not in self._by_key:
            raise ResetOptionsError(
                f"there is no game {wanted['game']!r} among {len(self.games)}; the first is {self.games[0].key!r}"
            )
        return self._by_key[wanted["game"]]
