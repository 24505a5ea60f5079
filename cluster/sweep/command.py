"""`croupier sweep`: run what is not done yet, one run after the other, and show what came of it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cluster.config import load_config
from cluster.record.progress import RunProgress
from cluster.record.run_dir import write_json
from cluster.sweep.outcome import Outcome, outcome_of
from cluster.sweep.table import table_of, to_json
from cluster.sweep.variants import Variant, expand
from protocol.errors import ConfigError

RESULT_FILE = "sweep.json"

STOP_DEADLINE_S = 120.0
"""How long an interrupted run may take for its checkpoint and the end of its processes, in seconds."""


def sweep(config: str, overrides: Sequence[str], axes: Sequence[str], console: Console | None = None) -> list[Outcome]:
    """Run all variants of a recipe below `runs_dir/NAME-sweep/`; those that are done already are not run again.

    Every run is a process of its own, as if it had been started by hand; its output goes to a file beside its
    directory. A run that fails is told and counted, and the others go on. Ctrl-C ends the run that is under way and the
    sweep; the same command goes on with it.

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
    outcomes = []
    with progress.phase(f"{base.name}: {len(variants)} runs", total=len(variants)) as phase:
        for number, variant in enumerate(variants):
            phase.update(number, f"{variant.label} {variant.seed or ''}")
            outcomes.append(_run(config, overrides, variant, folder, progress))
    progress.console.print(table_of(outcomes))
    write_json(folder / RESULT_FILE, to_json(outcomes, shlex.join(["croupier", *sys.argv[1:]])))
    progress.say(f"Result: {(folder / RESULT_FILE).absolute()}")
    return outcomes


def _run(config: str, overrides: Sequence[str], variant: Variant, folder: Path, progress: RunProgress) -> Outcome:
    run = folder / variant.folder
    done = outcome_of(variant, run)
    if done.results is not None:
        progress.say(f"{variant.folder}: done before")
        return done
    log = folder / f"{variant.folder}.txt"
    words = [sys.executable, "-m", "cluster", "train", config, *overrides, *variant.overrides]
    words += [f"runs_dir={folder}", f"name={variant.folder}"]
    if (run / "config.yaml").is_file():
        words = [sys.executable, "-m", "cluster", "train", str(run / "config.yaml"), f"resume={run}"]
    with log.open("ab") as output:
        code = _finish(subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT))
    if code:
        progress.say(f"{variant.folder}: ended with exit code {code}, see {log}")
    return outcome_of(variant, run)


def _finish(process: subprocess.Popen[bytes]) -> int:
    """Exit code of a run. Ctrl-C reaches it as well: it is left to end by itself before the sweep does."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
