"""What the user sees while a run goes on: one live line of phase and numbers, and a table row per update.

On a terminal the line is redrawn; elsewhere (CI, `ray job logs`) finished rows are printed one by one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

COLUMNS = {
    "success": ("rollout/success_rate", "{:7.1%}"),
    "return": ("rollout/mean_return", "{:+6.2f}"),
    "invalid": ("rollout/invalid_rate", "{:7.1%}"),
    "KL": ("learner/approx_kl", "{:6.3f}"),
    "stale": ("learner/staleness_max", "{:5.0f}"),
    "tok/s": ("speed/sampled_tokens_per_s", "{:6.0f}"),
    "steps/s": ("speed/env_steps_per_s", "{:7.0f}"),
    "sample s": ("time/rollout_s", "{:8.1f}"),
    "learn s": ("time/update_s", "{:7.1f}"),
}
"""Heading -> metric and format of the table that grows by a row per update; fits 80 columns."""


class RunProgress:
    """Prints phases, the live line and a row per update."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._header_printed = False

    def say(self, text: str) -> None:
        """Print one line above the live line."""
        self.console.print(text)

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """Show a phase while the block runs, and how long it took when it ends well."""
        began = time.monotonic()
        columns = [SpinnerColumn(), TextColumn("{task.description}")]
        if total is not None:
            columns += [BarColumn(bar_width=24), MofNCompleteColumn()]
        columns += [TimeElapsedColumn(), TextColumn("[dim]{task.fields[note]}")]
        live = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not live) as bar:
            phase = Phase(bar, bar.add_task(name, total=total, note=""))
            yield phase
        self.say(f"[green]done[/] {name} [dim]({time.monotonic() - began:.1f} s{phase.summary})[/]")

    def row(self, update: int, total: int, values: Mapping[str, float]) -> None:
        """Print the table row of one finished update."""
        widths = {heading: len(form.format(0)) for heading, (_, form) in COLUMNS.items()}
        if not self._header_printed:
            self.say(f"[bold]{'update':>7} {' '.join(h.rjust(w) for h, w in widths.items())}[/]")
            self._header_printed = True
        cells = []
        for heading, (key, form) in COLUMNS.items():
            value = values.get(key, math.nan)
            cells.append(("-" if math.isnan(value) else form.format(value)).rjust(widths[heading]))
        self.say(f"{f'{update}/{total}':>7} {' '.join(cells)}")


class Phase:
    """Handle on the live line of one phase."""

    def __init__(self, bar: Progress, task: int) -> None:
        self._bar = bar
        self._task = task
        self.summary = ""

    def update(self, completed: int | None = None, note: str = "") -> None:
        """Move the bar and change the note beside it."""
        self._bar.update(self._task, completed=completed, note=note)  # type: ignore[arg-type]

    def summarize(self, text: str) -> None:
        """What is printed with the phase when it has ended."""
        self.summary = f", {text}"
