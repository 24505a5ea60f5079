"""The command line. Each command reads its arguments, checks them, and calls one function elsewhere.

Nothing heavy is imported before a command runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from cluster.alfworld.commands import app as alfworld_app
from cluster.bench.cli import app as bench_app
from envs.errors import EnvError
from protocol.errors import CroupierError

app = typer.Typer(
    name="croupier",
    help="Fine-tune vision-language models as decision-making agents by reinforcement learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(alfworld_app)
app.add_typer(bench_app)

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, e.g. cluster/configs/local.yaml")]
OverrideArgument = Annotated[
    list[str] | None, typer.Argument(help="key.sub=value pairs that override the file", show_default=False)
]
EnvOption = Annotated[str, typer.Option(help="A registered id, or module:EnvClass; by default the run's own")]


@app.command()
def train(config: ConfigArgument, overrides: OverrideArgument = None) -> None:
    """Run a whole recipe: supervised fine-tuning (optional), then RL; or the configuration's stages in their order."""
    from cluster.config import load_config
    from cluster.record.summary import print_summary

    loaded = load_config(config, overrides or [])
    from cluster.train import train as run

    result = run(loaded)
    print_summary(result)
    if not result.finished:
        raise typer.Exit(130)


@app.command()
def sweep(
    config: ConfigArgument,
    overrides: OverrideArgument = None,
    vary: Annotated[
        list[str] | None, typer.Option(help="key=value,value,...: one run for each; values of seed are repeats")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; wall clocks compare only with 1")] = 1,
) -> None:
    """Run a recipe several times, once for every combination of values, and compare the runs in one table."""
    from cluster.sweep.command import sweep as run

    if any(outcome.results is None for outcome in run(config, overrides or [], vary or ["seed=0,1,2"], jobs=jobs)):
        raise typer.Exit(1)


@app.command()
def sft(config: ConfigArgument, overrides: OverrideArgument = None) -> None:
    """Run the supervised stage (or those that stages begin with) alone and leave the model in the run directory."""
    from cluster.config import load_config

    loaded = load_config(config, overrides or [])
    from cluster.stages.sft_only import supervised_only

    folder = supervised_only(loaded)
    if folder is None:
        raise typer.Exit(130)
    done = " ".join(f"stages.{name}=null" for name, stage in loaded.stages.items() if stage.kind == "sft") or "sft=null"
    print(f"Model: {folder}\nNext:  croupier train {config} model.path={folder} {done}")


@app.command()
def evaluate(
    run_or_model: Annotated[str, typer.Argument(help="A run directory, a model folder, expert, or random")],
    env: EnvOption = "",
    episodes: Annotated[int, typer.Option(min=1, max=1_000_000)] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Names the panel of initial states")] = 1_000_000,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy")] = 0.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the result to this file")
    ] = None,
    overrides: OverrideArgument = None,
) -> None:
    """Measure success on a fixed panel of episodes, with its interval."""
    from cluster.evaluate_command import evaluate_run_or_model
    from cluster.players import PLAYERS

    result = evaluate_run_or_model(
        run_or_model, env, episodes=episodes, seed=seed, temperature=temperature, overrides=overrides or []
    )
    from cluster.record.run_dir import write_json

    who = "greedy" if result.greedy else f"sampled at T={result.temperature:g}"
    who = run_or_model if run_or_model in PLAYERS else f"{who}, policy {result.policy_version}"
    print(f"{result.env}, {result.episodes} episodes, {who}: success {result}")
    print(
        f"return {result.mean_return:+.3f}, length {result.mean_length:.2f}, invalid {result.invalid_rate:.2%}, "
        f"truncated {result.truncation_rate:.2%}, panel {result.panel_digest[:12]}"
    )
    if json_file is not None:
        write_json(json_file, result.to_json())


@app.command()
def play(
    env: Annotated[str, typer.Option(help="As in evaluate; by default a run's own, else NumberLine")] = "",
    policy: Annotated[str, typer.Option(help="human, expert, random, or a run directory")] = "expert",
    episodes: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(file_okay=False, help="Save the frames here as PNG")] = None,
    overrides: OverrideArgument = None,
) -> None:
    """Step an environment, print the dialogue, save the frames."""
    from cluster.play import play_episodes

    console = Console(highlight=False)
    play_episodes(env, policy, episodes=episodes, seed=seed, out=out, console=console, overrides=overrides or [])


@app.command("check-env")
def check_env(env: Annotated[str, typer.Argument(help="A registered id, or module:EnvClass")]) -> None:
    """Run the conformance kit on an environment and its task adapter."""
    from envs.check import check_env as check

    report = check(env)
    print(report)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Check what is installed and what fits together; exit code 1 with cures where something does not."""
    from cluster.doctor import run_doctor

    raise typer.Exit(run_doctor())


def main() -> None:
    """Entry point: Croupier's own errors are told in two lines, everything else keeps its traceback."""
    # A user's own environment is usually a module in the working directory.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        app(standalone_mode=True)
    except (CroupierError, EnvError) as error:
        console = Console(stderr=True, highlight=False)
        console.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
