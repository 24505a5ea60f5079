"""What a benchmark found, as typed data: measured rows, ratios of pairs, courses, published numbers, on what machine.

Benchmarks fill `Findings`; `cluster.bench.suite` adds machine, date and command and makes the `BenchResult` that is
printed and written as JSON.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
"""Raised when the JSON changes its meaning or loses a key."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Summary(_Record):
    """Samples of one quantity, one per repeat, in the order of measurement."""

    samples: tuple[float, ...] = Field(min_length=1)
    median: float
    low: float
    """Smallest sample."""
    high: float
    """Largest sample."""

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        """Sum up samples, to six significant digits.

        Raises:
            ValueError: There are none, or one is not finite.
        """
        if not samples:
            raise ValueError("a summary needs at least one sample, there is none")
        rounded = tuple(float(f"{sample:.6g}") for sample in samples)
        return cls(samples=rounded, median=statistics.median(rounded), low=min(rounded), high=max(rounded))


class Row(_Record):
    """One measured quantity."""

    part: str
    """Section of the benchmark, such as "gym_cards"."""
    case: str
    """What was measured, such as "EZPoints reset"."""
    variant: str
    """Which of the contenders, such as "ours"."""
    unit: str
    values: Summary
    at_least: float | None = None
    """Goal for the median; missing it is told, and fails nothing."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return None if self.at_least is None else self.values.median >= self.at_least


class Ratio(_Record):
    """How two variants of a case compare, repeat by repeat: both halves of a pair met the same load."""

    part: str
    case: str
    of: str
    """Such as "original / ours"."""
    values: Summary
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return None if self.at_least is None else self.values.median >= self.at_least


class Course(_Record):
    """How one quantity went while a run went on; see `cluster.bench.soak_course` for what is made of the samples."""

    part: str
    case: str
    unit: str
    at_tenth: float
    """At 10 % of the run; each of these three is the median of the twentieth of the run that ends there."""
    at_half: float
    at_end: float
    peak: float
    """Largest sample."""
    slope: float
    """Per 1,000 environment steps, over the last two thirds of the run."""
    slope_error: float
    """Standard error of the slope."""
    grows: bool
    minutes: float
    """Length of the run."""
    curve: tuple[float, ...]
    """Values at evenly spaced times from the run's beginning to its end."""


class Reference(_Record):
    """A number from elsewhere, for orientation only: another machine, other versions."""

    part: str
    case: str
    value: float
    unit: str
    source: str


class Machine(_Record):
    """What the numbers were measured on."""

    cpu: str
    cores: int
    usable_cores: int
    """Cores that the process may run on."""
    memory_bytes: int
    gpus: tuple[str, ...]
    system: str
    load_average: float
    """Of the last minute, when the benchmark began: how busy others kept the machine."""
    versions: dict[str, str]


class BenchResult(_Record):
    """Everything that one benchmark leaves behind."""

    schema_version: int = SCHEMA_VERSION
    name: str
    about: str
    command: str
    date: str
    """UTC, ISO 8601, when the benchmark began."""
    quick: bool
    """A smoke run: few and short repeats, numbers without weight."""
    wall_s: float
    machine: Machine
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
    courses: tuple[Course, ...] = ()
    references: tuple[Reference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `BenchResult.model_validate` reads them back."""
        return self.model_dump(mode="json")


class Findings:
    """What a benchmark collects while it runs."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.ratios: list[Ratio] = []
        self.courses: list[Course] = []
        self.references: list[Reference] = []
        self.notes: list[str] = []

    def row(
        self,
        part: str,
        case: str,
        variant: str,
        unit: str,
        samples: Sequence[float],
        at_least: float | None = None,
    ) -> None:
        """Add a measured quantity."""
        values = Summary.of(samples)
        self.rows.append(Row(part=part, case=case, variant=variant, unit=unit, values=values, at_least=at_least))

    def ratio(
        self,
        part: str,
        case: str,
        of: str,
        numerators: Sequence[float],
        denominators: Sequence[float],
        at_least: float | None = None,
    ) -> None:
        """Add the comparison of two variants whose samples are pairs.

        Raises:
            ValueError: There are not as many numerators as denominators.
        """
        values = Summary.of([above / below for above, below in zip(numerators, denominators, strict=True)])
        self.ratios.append(Ratio(part=part, case=case, of=of, values=values, at_least=at_least))

    def reference(self, part: str, case: str, value: float, unit: str, source: str) -> None:
        """Add a number from elsewhere."""
        self.references.append(Reference(part=part, case=case, value=value, unit=unit, source=source))

    def note(self, text: str) -> None:
        """Add a sentence that readers of the numbers need."""
        self.notes.append(text)
