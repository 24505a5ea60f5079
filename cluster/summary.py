"""The last lines of a training run: success before and after, and where everything is."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cluster.train import TrainResult


def print_summary(result: TrainResult) -> None:
    """Print the table of evaluations and the run directory."""
    console = Console(highlight=False)
    evaluations = result.evaluations
    if evaluations:
        some = next(iter(evaluations.values()))
        table = Table(title=f"{some.env}: success over {some.episodes} episodes, 95 % interval")
        table.add_column("mode")
        table.add_column("before RL", justify="right")
        table.add_column("after RL", justify="right")
        for mode in ("greedy", "sampled"):
            before, after = evaluations.get(f"before_{mode}"), evaluations.get(f"after_{mode}")
            table.add_row(mode, str(before or "-"), str(after or "-"))
        console.print(table)
        for mode in ("greedy", "sampled"):
            before, after = evaluations.get(f"before_{mode}"), evaluations.get(f"after_{mode}")
            if before and after:
                console.print(
                    f"success {mode}: {100 * before.success_rate:.1f} % before RL -> "
                    f"{100 * after.success_rate:.1f} % after RL"
                )
    console.print(f"Run directory: {result.run.root}", soft_wrap=True)
