"""What the user sees while a run goes on: one live line of phase and numbers, and a table row per update.

On a terminal the line is redrawn; elsewhere (CI, `ray job logs`) finished rows are printed one by one.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from cluster.servers.idle import IDLE, main_cause

WORTH_A_CAUSE = 0.1
"""Idle share of the engines from which on the live line names its main cause."""

_AGE = re.compile(r"learner/staleness_\d+")

COLUMNS = {
    "success": ("rollout/success_rate", "{:7.1%}"),
    "return": ("rollout/mean_return", "{:+6.2f}"),
    "invalid": ("rollout/invalid_rate", "{:7.1%}"),
    "KL": ("learner/approx_kl", "{:6.3f}"),
    "stale": ("learner/staleness_max", "{:5.0f}"),
    "tok/s": ("speed/sampled_tokens_per_s", "{:6.0f}"),
    "steps/s": ("speed/env_steps_per_s", "{:7.0f}"),
    "idle e": ("idle/engines", "{:6.0%}"),
    "w": ("idle/workers", "{:4.0%}"),
    "l": ("idle/learner", "{:4.0%}"),
}
"""Heading -> metric and format of the table that grows by a row per update; fits 80 columns. The last three are the
shares of time in which engines, workers and learner had nothing to do."""


def flow_note(values: Mapping[str, float]) -> str:
    """What the live line says of an update: who waited, and engines for what; how old the rows were; how long the
    adapter took."""
    parts = [
        f"{name} {values[key]:.0%} idle"
        for name, key in (("engines", IDLE), ("workers", "idle/workers"), ("learner", "idle/learner"))
        if not math.isnan(values.get(key, math.nan))
    ]
    if values.get(IDLE, 0.0) >= WORTH_A_CAUSE and (cause := main_cause(values)):
        parts[0] += f" ({cause})"
    ages = sorted((int(key.rsplit("_", 1)[1]), value) for key, value in values.items() if _AGE.fullmatch(key))
    if ages:
        parts.append("stale " + " ".join(f"{age}:{share:.0%}" for age, share in ages))
    if "time/publish_s" in values:
        parts.append(f"publish {values['time/publish_s']:.2f} s")
    return ", ".join(parts)


class RunProgress:
    """Prints phases, the live line and a row per update."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._header_printed = False

    def say(self, text: str) -> None:
        """Print one line above the live line, as it is: brackets are no markup, a long path stays whole."""
        self.console.print(text, markup=False, soft_wrap=True)

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
            phase = Phase(bar, bar.add_task(escape(name), total=total, note=""))
            yield phase
        took = f"({time.monotonic() - began:.1f} s{phase.summary})"
        self.console.print(f"[green]done[/] {escape(name)} [dim]{escape(took)}[/]", soft_wrap=True)

    def row(self, update: int, total: int, values: Mapping[str, float]) -> None:
        """Print the table row of one finished update."""
        widths = {heading: len(form.format(0)) for heading, (_, form) in COLUMNS.items()}
        if not self._header_printed:
            header = " ".join(heading.rjust(width) for heading, width in widths.items())
            self.console.print(f"{'update':>7} {header}", style="bold")
            self._header_printed = True
        cells = []
        for heading, (key, form) in COLUMNS.items():
            value = values.get(key, math.nan)
            cells.append(("-" if math.isnan(value) else form.format(value)).rjust(widths[heading]))
        self.say(f"{f'{update}/{total}':>7} {' '.join(cells)}")


class Phase:
    """Handle on the live line of one phase."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task
        self.summary = ""

    def update(self, completed: int | None = None, note: str = "") -> None:
        """Move the bar and change the note beside it."""
        self._bar.update(self._task, completed=completed, note=escape(note))

    def summarize(self, text: str) -> None:
        """Set what is printed with the phase when it has ended well."""
        self.summary = f", {text}"
