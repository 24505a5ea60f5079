"""`croupier alfworld`: fetch ALFWorld's own games, generate households, and say what a folder holds.

Nothing heavy is imported before the arguments have been read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from protocol.errors import ConfigError

app = typer.Typer(name="alfworld", help="Games for ALFWorld: fetch, generate, list.", no_args_is_help=True)

PanelOption = Annotated[
    str, typer.Option(help="tiny, tiny_many, small or full: the recipe that the other options change")
]
RangeOption = Annotated[str, typer.Option(metavar="LOW-HIGH", help="How many in a household, e.g. 3-4 or 5")]
CountOption = Annotated[int | None, typer.Option(min=0, help="Games of that split")]


@app.command()
def fetch(
    data: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder; by default $ALFWORLD_DATA, or ~/.cache/alfworld")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Download and overwrite what is there already")] = False,
) -> None:
    """Download ALFWorld's own games (text mode only) and count them."""
    from cluster.alfworld.data import fetch_official

    if not fetch_official(data, force, Console(highlight=False)):
        raise typer.Exit(1)


@app.command()
def generate(
    panel: PanelOption = "tiny",
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder, new or empty; without it a named panel goes into the cache"),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the scenes")] = None,
    receptacles: RangeOption = "",
    things: RangeOption = "",
    rooms: Annotated[int | None, typer.Option(min=1, max=4, help="Rooms whose furniture may be mixed")] = None,
    shared_places: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Probability that two receptacles stand together")
    ] = None,
    train: CountOption = None,
    valid_seen: CountOption = None,
    valid_unseen: CountOption = None,
    processes: Annotated[int | None, typer.Option(min=1, help="By default one for each core, at most 8")] = None,
) -> None:
    """Write genuine game files: households drawn at random, each of them won once before it counts."""
    difficulty = {
        "receptacles": _range(receptacles, "--receptacles"),
        "things": _range(things, "--things"),
        "rooms": rooms,
        "shared_places": shared_places,
    }
    counts = {"train": train, "valid_seen": valid_seen, "valid_unseen": valid_unseen, "seed": seed}
    changed = any(value is not None for value in (*difficulty.values(), *counts.values()))
    if changed and out is None:
        raise ConfigError("The cache holds the named panels only.", "name a folder for your own recipe with --out")
    from cluster.alfworld.data import generate_panel

    generate_panel(panel, difficulty, counts, out, processes, Console(highlight=False))


@app.command("list")
def list_games(
    games: Annotated[str, typer.Argument(help="A folder, a panel's name, or official")],
) -> None:
    """Count the games of each split and task type, with the commands that a perfect player needs."""
    from cluster.alfworld.data import print_counts, splits_of

    print_counts(splits_of(games), Console(highlight=False))


def _range(text: str, option: str) -> tuple[int, int] | None:
    """A range such as "3-4"; "5" is "5-5", "" is none."""
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        raise ConfigError(f"{option} is {text!r}, not a range of numbers.", "write it like 3-4, or 5")
    return int(match[1]), int(match[2] or match[1])
