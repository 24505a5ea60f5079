"""The tables of a result: in full for a terminal, and short as Markdown for documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.bench.result import BenchResult, Course, Ratio, Row, Summary

_LEVELS = ("at 10 %", "at half", "at the end", "peak", "per 1,000 steps")
_RIGHT = {"median", "min..max", "value", *_LEVELS}


class Section(NamedTuple):
    """A table as text."""

    title: str
    headings: tuple[str, ...]
    cells: list[tuple[str, ...]]


def print_result(result: BenchResult, console: Console) -> None:
    """Print machine, courses, rows by part, ratios, numbers from elsewhere and notes."""
    console.print(f"[bold]{escape(result.name)}[/]: {escape(result.about)}")
    console.print(machine_line(result), markup=False)
    if result.quick:
        console.print("[yellow]A quick run: it shows that the benchmark works, its numbers have no weight.[/]")
    for section in sections(result):
        table = Table(title=section.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in section.headings:
            table.add_column(heading, justify="right" if heading in _RIGHT else "left")
        for before, line in zip([None, *section.cells], section.cells, strict=False):
            again = before is not None and before[0] == line[0]
            table.add_row("" if again else escape(line[0]), *map(escape, line[1:]))
        console.print(table)
    for note in result.notes:
        console.print(f"- {note}", markup=False)


def markdown(result: BenchResult) -> str:
    """Courses; medians by case, variants side by side with their ratio; the JSON holds the rest."""
    lines = [f"`{result.command}`, {result.date[:10]}; {machine_line(result)}.", ""]
    for section in _courses(result.courses):
        lines += [f"| {section.title} | {' | '.join(section.headings[1:])} |", "|---" * len(section.headings) + "|"]
        lines += [*(f"| {' | '.join(line)} |" for line in section.cells), ""]
    for part in dict.fromkeys(row.part for row in result.rows):
        lines += [f"| {part} | median | ratio of neighbouring repeats (min..max) |", "|---|---|---|"]
        rows = [row for row in result.rows if row.part == part]
        for case in dict.fromkeys(row.case for row in rows):
            medians = [f"{one.variant} {_median(one)}{_verdict(one)}" for one in rows if one.case == case]
            ratios = [
                f"{one.of} {_median(one)} ({_span(one.values)}){_verdict(one)}"
                for one in result.ratios
                if (one.part, one.case) == (part, case)
            ]
            lines.append(f"| {case} | {', '.join(medians)} | {', '.join(ratios)} |")
        lines.append("")
    elsewhere = [f"{one.case} {number(one.value)} {one.unit} ({one.source})" for one in result.references]
    notes = [*result.notes, *([f"For orientation only: {'; '.join(elsewhere)}."] if elsewhere else [])]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]).rstrip() + "\n"


def sections(result: BenchResult) -> list[Section]:
    """Every table of the result: courses, rows and ratios part by part, then the numbers from elsewhere."""
    made = _courses(result.courses)
    for part in dict.fromkeys(row.part for row in result.rows):
        made.append(_rows(part, [row for row in result.rows if row.part == part]))
        if ratios := [ratio for ratio in result.ratios if ratio.part == part]:
            made.append(_ratios(f"{part}: ratios of neighbouring repeats", ratios))
    if result.references:
        cells = [(one.case, f"{number(one.value)} {one.unit}", one.source) for one in result.references]
        made.append(Section("numbers from elsewhere, for orientation", ("case", "value", "source"), cells))
    return made


def machine_line(result: BenchResult) -> str:
    """Processor, cores, memory and load in one line."""
    machine = result.machine
    gpus = f", {', '.join(machine.gpus)}" if machine.gpus else ""
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.1f} GiB{gpus}, "
        f"load {machine.load_average:g} at the start, Python {machine.versions['python']}"
    )


def number(value: float) -> str:
    """Three significant digits, without an exponent; from ten thousand on in thousands, "12.3k"."""
    if abs(value) >= 10_000:
        return f"{number(value / 1000)}k"
    for least, form in ((100, ",.0f"), (10, ".1f"), (1, ".2f"), (0.1, ".3f")):
        if abs(value) >= least:
            return f"{value:{form}}"
    return f"{value:.4f}"


def _courses(courses: Sequence[Course]) -> list[Section]:
    made = []
    for part, unit in dict.fromkeys((course.part, course.unit) for course in courses):
        cells = [_course(course) for course in courses if course.part == part]
        made.append(Section(f"{part} ({unit})", ("case", *_LEVELS, "verdict"), cells))
    return made


def _course(course: Course) -> tuple[str, ...]:
    levels = (course.at_tenth, course.at_half, course.at_end, course.peak)
    slope = f"{'+' * (course.slope >= 0)}{number(course.slope)} ± {number(course.slope_error)}"
    return course.case, *map(number, levels), slope, "grows" if course.grows else "flat"


def _rows(title: str, rows: Sequence[Row]) -> Section:
    cells = [(row.case, row.variant, _median(row), _span(row.values), _goal(row)) for row in rows]
    return _without_empty_goals(Section(title, ("case", "variant", "median", "min..max", "goal"), cells))


def _ratios(title: str, ratios: Sequence[Ratio]) -> Section:
    cells = [(one.case, one.of, _median(one), _span(one.values), _goal(one)) for one in ratios]
    return _without_empty_goals(Section(title, ("case", "ratio", "median", "min..max", "goal"), cells))


def _without_empty_goals(section: Section) -> Section:
    """The section without its last column where that says nothing."""
    if any(line[-1] for line in section.cells):
        return section
    return Section(section.title, section.headings[:-1], [line[:-1] for line in section.cells])


def _median(measured: Row | Ratio) -> str:
    return f"{number(measured.values.median)} {measured.unit if isinstance(measured, Row) else 'x'}"


def _span(values: Summary) -> str:
    if len(values.samples) == 1:
        return "one sample"
    return f"{number(values.low)}..{number(values.high)}"


def _verdict(measured: Row | Ratio) -> str:
    goal = _goal(measured)
    return f" ({goal})" if goal else ""


def _goal(measured: Row | Ratio) -> str:
    if measured.at_least is None:
        return ""
    return f">= {measured.at_least:,g} {'met' if measured.met else 'MISSED'}"
