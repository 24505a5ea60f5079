"""Which folder of games a name stands for."""

import os
from pathlib import Path

from envs.alfworld.errors import GameFilesError
from envs.alfworld.generator import DATA_FOLDER, SPLITS
from envs.alfworld.panels import PANELS, panel_folder

OFFICIAL, DEFAULT_GAMES = "official", "tiny"
OFFICIAL_COUNTS = {"train": 3553, "valid_seen": 140, "valid_unseen": 134}
"""Games of ALFWorld's own data in each split, as its authors count them."""


def official_folder() -> Path:
    """Where ALFWorld's own data belongs: $ALFWORLD_DATA, by default ~/.cache/alfworld as for ALFWorld itself."""
    return Path(os.environ.get("ALFWORLD_DATA") or Path.home() / ".cache" / "alfworld").expanduser()


def games_folder(games: str, split: str) -> Path:
    """The folder to search for games.

    Args:
        games: "official" for the data below $ALFWORLD_DATA, the name of a generated panel, or a folder: a tree
            like $ALFWORLD_DATA, its data folder, or any other folder of games, which then has no splits.
        split: "train", "valid_seen" or "valid_unseen".

    Raises:
        GameFilesError: the split is unknown, or `games` is neither a name nor a folder.
    """
    if split not in SPLITS:
        raise GameFilesError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    if games in PANELS:
        return panel_folder(games) / DATA_FOLDER / split
    if games == OFFICIAL:
        folder = official_folder() / DATA_FOLDER / split
        if not folder.is_dir():
            raise GameFilesError(f"there is no folder {folder}; run `croupier alfworld fetch`, or set ALFWORLD_DATA")
        return folder
    folder = Path(games).expanduser()
    if not folder.is_dir():
        raise GameFilesError(
            f"games must be {OFFICIAL!r}, {', '.join(map(repr, PANELS))} or a folder; {games!r} is none of them"
        )
    inner = (folder / DATA_FOLDER / split, folder / split)
    return next((path for path in inner if path.is_dir()), folder)
