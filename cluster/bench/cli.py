"""`croupier bench`: one command per benchmark, and one for all. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="bench",
    help="Measure what things cost: prints tables, writes JSON.",
    no_args_is_help=True,
)

QuickOption = Annotated[bool, typer.Option("--quick", help="A smoke run of seconds; its numbers have no weight")]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", dir_okay=False, help="Write the result to this file  [default: .bench/NAME.json]"),
]
SoakOption = Annotated[bool, typer.Option("--soak", help="Also the parts that run for minutes")]


@app.command()
def envs(quick: QuickOption = False, soak: SoakOption = False, json_file: JsonOption = None) -> None:
    """Environments: reset, step, picture, prompt, memory, start-up, beside what the original had to do."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench

    bench("envs", BenchSettings(quick=quick, soak=soak), json_file)


@app.command()
def learner(quick: QuickOption = False, json_file: JsonOption = None) -> None:
    """The learner: tokens per second and memory of PPO and SFT, beside a plain transformers and peft loop."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench

    bench("learner", BenchSettings(quick=quick), json_file)


@app.command()
def transport(quick: QuickOption = False, json_file: JsonOption = None) -> None:
    """Rows from worker to learner: Arrow batches by reference, beside pickled objects and memcpy."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench

    bench("transport", BenchSettings(quick=quick), json_file)


@app.command()
def publish(quick: QuickOption = False, json_file: JsonOption = None) -> None:
    """A new adapter, from the last optimizer step to every server's word; gaps between tokens meanwhile."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench

    bench("publish", BenchSettings(quick=quick), json_file)


@app.command()
def loop(quick: QuickOption = False, json_file: JsonOption = None) -> None:
    """Whole loops, end to end: the original's shape, lock-step, asynchronous."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench

    bench("loop", BenchSettings(quick=quick), json_file)


@app.command()
def scale(quick: QuickOption = False, json_file: JsonOption = None) -> None:
    """1 to 64 rollout workers against a stub engine: steps per second, and what they cost the driver."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench

    bench("scale", BenchSettings(quick=quick), json_file)


@app.command()
def soak(
    minutes: Annotated[
        float, typer.Option(min=1.0, help="Length of the run, from its first update; --quick takes seconds instead")
    ] = 30.0,
    quick: QuickOption = False,
    json_file: JsonOption = None,
) -> None:
    """Memory of every process while a run goes on: flat or not? Ctrl-C ends it with what there is."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench

    bench("soak", BenchSettings(quick=quick, minutes=minutes), json_file)


@app.command("all")
def every(
    quick: QuickOption = False,
    soak: SoakOption = False,
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder of the JSON files")] = Path(".bench"),
) -> None:
    """Every benchmark, one after the other."""
    from cluster.bench.registry import BenchSettings
    from cluster.bench.suite import bench_all

    bench_all(BenchSettings(quick=quick, soak=soak), folder)
