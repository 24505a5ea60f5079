"""What the `croupier alfworld` commands do: fetch, generate, count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.alfworld.fetch import fetch
from cluster.record.progress import RunProgress
from envs.alfworld.game_files import Scan, scan
from envs.alfworld.generator import DATA_FOLDER, MANIFEST_FILE, SPLITS
from envs.alfworld.goal import TASK_TYPES
from envs.alfworld.panels import PANELS, is_generated, panel_folder, panel_home, write_whole
from envs.alfworld.processes import usual_processes
from envs.alfworld.sources import OFFICIAL, OFFICIAL_COUNTS, official_folder
from protocol.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Games of one folder."""

    name: str
    """"" for a folder without splits."""
    folder: Path
    found: Scan


def fetch_official(data: Path | None, force: bool, console: Console) -> bool:
    """Fetch ALFWorld's own games unless they are all there, print the counts, and say whether they are complete."""
    folder = (data or official_folder()).expanduser().absolute()
    splits = _splits_below(folder)
    if force or not _complete(splits):
        for address in fetch(folder, force):
            console.print(f"Fetched: {address}", soft_wrap=True)
        splits = _splits_below(folder)
    print_counts(splits, console)
    if folder != official_folder().expanduser().absolute():
        console.print(f"Tell every machine where it is: export ALFWORLD_DATA={folder}", soft_wrap=True)
    if not _complete(splits):
        wanted = ", ".join(f"{count} {name}" for name, count in OFFICIAL_COUNTS.items())
        console.print(f"[bold red]Incomplete:[/] ALFWorld has {wanted} games. Try again with --force.", soft_wrap=True)
    return _complete(splits)


def generate_panel(
    name: str,
    difficulty: Mapping[str, Any],
    counts: Mapping[str, int | None],
    out: Path | None,
    processes: int | None,
    console: Console,
) -> None:
    """Generate a named panel, with some fields changed, and print its digest and its counts.

    Args:
        name: A key of `PANELS`.
        difficulty: Fields of `Difficulty`; None keeps the panel's own.
        counts: Fields of `Panel`, likewise.
        out: Folder to be made; None for the cache.
        processes: How many generate; None for one per core.
        console: Where to print.

    Raises:
        ConfigError: There is no such panel, or the fields do not fit together.
        envs.alfworld.errors.GenerationError: A game could not be built, or the folder holds something.
    """
    if name not in PANELS:
        raise ConfigError(f"There is no panel {name!r}.", f"give one of {', '.join(PANELS)}")
    try:
        size = replace(PANELS[name].difficulty, **_given(difficulty))
        panel = replace(PANELS[name], difficulty=size, **_given(counts))
    except ValueError as error:
        raise ConfigError(str(error), "see croupier alfworld generate --help") from error
    processes = processes or usual_processes()
    with RunProgress(console).phase(f"generate {panel.games} games", total=panel.games) as phase:
        if out is None:
            folder = panel_folder(name, processes, lambda count, total: phase.update(count))
        else:
            folder = out.expanduser().absolute()
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_whole(panel, folder, processes, lambda count, total: phase.update(count))
    print_counts(_splits_below(folder), console)
    console.print(f"Digest: {_manifest(folder)['digest']}\nFolder: {folder}", soft_wrap=True)


def splits_of(games: str) -> list[Split]:
    """What a panel's name, "official" or a folder holds.

    Raises:
        ConfigError: The panel has not been generated.
        envs.alfworld.errors.GameFilesError: There is no such folder, or one of its files is damaged.
    """
    if games in PANELS:
        if not is_generated(panel_home(games)):
            raise ConfigError(
                f"The panel {games!r} has not been generated on this machine.",
                f"croupier alfworld generate --panel {games}",
            )
        return _splits_below(panel_home(games))
    folder = official_folder() if games == OFFICIAL else Path(games).expanduser()
    return _splits_below(folder) or [Split("", folder, scan(folder))]


def print_counts(splits: list[Split], console: Console) -> None:
    """A table of games by split and task type, with the mean length of the known walkthroughs, and what was skipped."""
    table = Table("task type")
    for split in splits:
        table.add_column(split.name or "games", justify="right")
    lengths = [_walkthroughs(split) for split in splits]
    for task_type in TASK_TYPES:
        columns = zip(splits, lengths, strict=True)
        table.add_row(task_type, *(_cell(split, known, {task_type}) for split, known in columns))
    table.add_section()
    columns = zip(splits, lengths, strict=True)
    table.add_row("all", *(_cell(split, known, set(TASK_TYPES)) for split, known in columns))
    if splits:
        console.print(table)
    if any(lengths):
        console.print("In brackets: mean number of commands with which a player who knows everything wins.")
    for split in splits:
        for reason, count in split.found.skipped.items():
            where = f"{split.name}: " if split.name else ""
            console.print(f"{where}{count} folders passed over, {reason.value}")


def _splits_below(folder: Path) -> list[Split]:
    """The splits that are there; none for a folder of another kind."""
    roots = [folder / DATA_FOLDER, folder]
    root = next((root for root in roots if any((root / name).is_dir() for name in SPLITS)), None)
    found = [] if root is None else [(name, root / name) for name in SPLITS if (root / name).is_dir()]
    return [Split(name, path, scan(path)) for name, path in found]


def _complete(splits: list[Split]) -> bool:
    return {split.name: len(split.found.games) for split in splits} == OFFICIAL_COUNTS


def _cell(split: Split, lengths: Mapping[str, int], task_types: set[str]) -> str:
    games = [game for game in split.found.games if game.goal.task_type in task_types]
    known = [lengths[game.key] for game in games if game.key in lengths]
    return f"{len(games)} ({sum(known) / len(known):.1f})" if known else str(len(games))


def _walkthroughs(split: Split) -> dict[str, int]:
    """Game to the commands that win it, as far as a generated panel's manifest says."""
    for root in (split.folder.parent, split.folder.parent.parent):
        if (root / MANIFEST_FILE).is_file():
            games = _manifest(root)["games"]
            return {game["game"].removeprefix(f"{split.folder.name}/"): game["steps"] for game in games}
    return {}


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
