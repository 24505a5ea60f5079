"""`croupier sweep`: run what is not done yet and show what came of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.config import load_config
from cluster.record.progress import RunProgress
from cluster.record.run_dir import write_json
from cluster.sweep.launcher import Launch, run_all
from cluster.sweep.outcome import Outcome, outcome_of
from cluster.sweep.table import table_of, to_json
from cluster.sweep.variants import Variant, expand
from protocol.errors import ConfigError

RESULT_FILE = "sweep.json"


def sweep(
    config: str, overrides: Sequence[str], axes: Sequence[str], *, jobs: int = 1, console: Console | None = None
) -> list[Outcome]:
    """Run all variants of a recipe below `runs_dir/NAME-sweep/`; those that are done already are not run again.

    Every run is a process of its own, as if it had been started by hand; its output goes to a file beside its
    directory. A run that fails is told and counted, and the others go on. Ctrl-C ends the runs that are under way and
    the sweep; the same command goes on with them.

    Args:
        config: The recipe's file.
        overrides: `key=value` for all runs.
        axes: `key=value,value,...`; every combination is a run, values of `seed` are repeats.
        jobs: Runs at a time.
        console: Where progress and the table go.

    Raises:
        ConfigError: A variant's configuration is wrong; nothing has been started.
    """
    progress = RunProgress(console)
    variants = expand(axes)
    base = load_config(config, overrides)
    for variant in variants:
        load_config(config, [*overrides, *variant.overrides])
    if base.resume is not None:
        raise ConfigError("resume has no effect beside a sweep.", "leave it out: what is done is not run again")
    folder = Path(base.runs_dir) / f"{base.name}-sweep"
    folder.mkdir(parents=True, exist_ok=True)
    with progress.phase(f"{base.name}: {len(variants)} runs", total=len(variants)) as phase:
        missing = [variant for variant in variants if outcome_of(variant, folder / variant.folder).results is None]
        done = len(variants) - len(missing)
        if done:
            progress.say(f"{done} of {len(variants)} runs were done before")
        phase.update(done, "")

        def ended(launch: Launch, code: int) -> None:
            nonlocal done
            done += 1
            phase.update(done, launch.name)
            if code:
                progress.say(f"{launch.name}: ended with exit code {code}, see {launch.log}")

        run_all([_launch(config, overrides, variant, folder) for variant in missing], jobs, ended)
    outcomes = [outcome_of(variant, folder / variant.folder) for variant in variants]
    progress.console.print(table_of(outcomes))
    write_json(folder / RESULT_FILE, to_json(outcomes, shlex.join(["croupier", *sys.argv[1:]])))
    progress.say(f"Result: {(folder / RESULT_FILE).absolute()}")
    return outcomes


def _launch(config: str, overrides: Sequence[str], variant: Variant, folder: Path) -> Launch:
    """The command that makes a run, or goes on with it."""
    run = folder / variant.folder
    words = ["train", config, *overrides, *variant.overrides, f"runs_dir={folder}", f"name={variant.folder}"]
    if (run / "config.yaml").is_file():
        words = ["train", str(run / "config.yaml"), f"resume={run}"]
    return Launch(variant.folder, (sys.executable, "-m", "cluster", *words), folder / f"{variant.folder}.txt")
