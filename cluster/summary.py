"""The last lines of a training run: success before and after, and where everything is."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cluster.train import TrainResult

MODES = ("greedy", "sampled")


def print_summary(result: TrainResult, console: Console | None = None) -> None:
    """Print the table of evaluations, success before and after in one line per mode, and the run directory."""
    console = console or Console(highlight=False)
    pairs = {m: (result.evaluations.get(f"before_{m}"), result.evaluations.get(f"after_{m}")) for m in MODES}
    some = next(iter(result.evaluations.values()), None)
    if some is not None:
        console.print(f"{some.env}: success over {some.episodes} episodes, with its 95 % interval")
        table = Table()
        table.add_column("mode")
        table.add_column("before RL", justify="right")
        table.add_column("after RL", justify="right")
        for mode, (before, after) in pairs.items():
            table.add_row(mode, str(before or "-"), str(after or "-"))
        console.print(table)
    for mode, (before, after) in pairs.items():
        if before and after:
            console.print(
                f"success {mode}: {100 * before.success_rate:.1f} % before RL -> "
                f"{100 * after.success_rate:.1f} % after RL"
            )
    console.print(f"Run directory: {result.run.root}", soft_wrap=True)
