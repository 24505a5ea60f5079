"""The last lines of a training run: success before and after, and where everything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from cluster.evaluation import EvaluationResult
from cluster.train import TrainResult

MODES = ("greedy", "sampled")


def print_summary(result: TrainResult, console: Console | None = None) -> None:
    """Print the table of evaluations, success from first to last per panel and mode, and the run directory."""
    console = console or Console(highlight=False)
    evaluations = result.evaluations
    points = list(dict.fromkeys(name.rpartition("_")[0] for name in evaluations)) or ["before", "after"]
    if not any("/" in point for point in points):
        points = ["before", "after"]  # also where one of them is missing
    titles = {point: _title(point) for point in points}
    if evaluations:
        what = {f"{own.env}: success over {own.episodes} episodes" for own in evaluations.values()}
        console.print(f"{what.pop() if len(what) == 1 else 'success'}, with its 95 % interval", soft_wrap=True)
        console.print(_table(result, titles))
    for panel in _panels(evaluations, points):
        for mode in MODES:
            rates = {point: evaluations.get(f"{point}_{mode}") for point in panel}
            if len(panel) > 1 and all(rates.values()):
                told = [f"{100 * own.success_rate:.1f} % {titles[point]}" for point, own in rates.items() if own]
                console.print(f"success {mode}: {' -> '.join(told)}", soft_wrap=True)
    console.print(f"Run directory: {result.run.root}", soft_wrap=True)


def _panels(evaluations: Mapping[str, EvaluationResult], points: Sequence[str]) -> list[list[str]]:
    """The points that can be compared: those whose evaluations played the same episodes."""
    panels: dict[str, list[str]] = {}
    for point in points:
        digests = {own.panel_digest for mode in MODES if (own := evaluations.get(f"{point}_{mode}")) is not None}
        panels.setdefault(min(digests, default=""), []).append(point)
    return list(panels.values())


def _title(point: str) -> str:
    """`before` -> "before RL"; `prefer/before` -> "before prefer"."""
    stage, _, when = point.rpartition("/")
    return f"{when} {stage or 'RL'}"


def _table(result: TrainResult, titles: dict[str, str]) -> Table:
    """Modes as rows and the two points as columns; points as rows where there are more."""
    cells = {(point, mode): str(result.evaluations.get(f"{point}_{mode}") or "-") for point in titles for mode in MODES}
    table = Table()
    if len(titles) <= 2:
        table.add_column("mode")
        for title in titles.values():
            table.add_column(title, justify="right")
        for mode in MODES:
            table.add_row(mode, *(cells[point, mode] for point in titles))
        return table
    table.add_column("policy")
    for mode in MODES:
        table.add_column(mode, justify="right")
    for point, title in titles.items():
        table.add_row(title, *(cells[point, mode] for mode in MODES))
    return table
