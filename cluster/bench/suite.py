"""Runs benchmarks: measures, prints the tables, writes the JSON."""

from __future__ import annotations

import shlex
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from cluster.bench.machine import describe_machine
from cluster.bench.registry import BENCHMARKS, BenchSettings, find
from cluster.bench.result import BenchResult
from cluster.bench.tables import print_result
from cluster.record.progress import RunProgress
from cluster.record.run_dir import write_json

FOLDER = Path(".bench")
"""Where results go that nobody named a place for; git ignores it."""


def run_benchmark(name: str, settings: BenchSettings, progress: RunProgress) -> BenchResult:
    """Run one benchmark.

    Raises:
        ConfigError: There is none of that name.
    """
    benchmark = find(name)
    machine, date, began = describe_machine(), datetime.now(UTC), time.monotonic()
    findings = benchmark.load()(settings, progress)
    return BenchResult(
        name=benchmark.name,
        about=benchmark.about,
        command=shlex.join(["croupier", *sys.argv[1:]]),
        date=date.isoformat(timespec="seconds"),
        quick=settings.quick,
        wall_s=round(time.monotonic() - began, 1),
        machine=machine,
        rows=tuple(findings.rows),
        ratios=tuple(findings.ratios),
        courses=tuple(findings.courses),
        references=tuple(findings.references),
        notes=tuple(findings.notes),
    )


def bench(name: str, settings: BenchSettings, json_file: Path | None = None, console: Console | None = None) -> None:
    """Run one benchmark, print its tables and write its JSON, by default to `.bench/NAME.json`.

    Raises:
        ConfigError: There is none of that name.
    """
    console = console or Console(highlight=False)
    result = run_benchmark(name, settings, RunProgress(console))
    print_result(result, console)
    path = json_file or FOLDER / f"{name}.json"
    write_json(path, result.to_json())
    console.print(f"Result: {path.absolute()}", markup=False, soft_wrap=True)


def bench_all(settings: BenchSettings, folder: Path, console: Console | None = None) -> None:
    """Run every benchmark, one after the other, and write NAME.json of each into the folder.

    Long ones take part in quick runs, and where the settings ask for them.

    Raises:
        PlacementError: Ray does not start.
    """
    with ExitStack() as stack:
        for benchmark in BENCHMARKS:
            if benchmark.is_long and not (settings.quick or settings.soak):
                continue
            if benchmark.uses_ray:
                from cluster.bench.local_ray import local_ray  # Ray takes a while to import

                stack.enter_context(local_ray(RunProgress(console)))
            bench(benchmark.name, settings, folder / f"{benchmark.name}.json", console)
