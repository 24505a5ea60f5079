"""What the conformance kit found, as data for tests and as a table for people."""

import textwrap
from dataclasses import dataclass
from typing import NamedTuple

_LINE_CHARS = 110


class Problem(NamedTuple):
    """Something that breaks the contract."""

    what: str
    cure: str
    """What to change; "" where the complaint says it."""


@dataclass(frozen=True)
class Finding:
    """Verdict of one check."""

    check: str
    content: str
    """What was looked at, or measured."""
    problems: tuple[Problem, ...] = ()

    @property
    def passed(self) -> bool:
        """True where no problem was found."""
        return not self.problems

    def lines(self, width: int) -> list[str]:
        """The finding in a table whose second column is `width` characters wide."""
        if self.passed:
            return _row("ok", self.check, width, self.content)
        lines: list[str] = []
        for number, problem in enumerate(self.problems):
            lines += _row("FAIL" if number == 0 else "", self.check if number == 0 else "", width, problem.what)
            lines += _row("", "", width, f"cure: {problem.cure}") if problem.cure else []
        return lines


@dataclass(frozen=True)
class Report:
    """All findings about one environment; `str(report)` is a table for people."""

    env_id: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """True when no check failed."""
        return all(finding.passed for finding in self.findings)

    def __str__(self) -> str:
        """A row per finding with its cures, and the verdict as the last line."""
        width = max(len(finding.check) for finding in self.findings)
        lines = [line for finding in self.findings for line in finding.lines(width)]
        failed = [finding.check for finding in self.findings if not finding.passed]
        verdict = f"all {len(self.findings)} checks passed"
        if failed:
            verdict = f"{len(failed)} of {len(self.findings)} checks failed: {', '.join(failed)}"
        return "\n".join([self.env_id, *lines, verdict])


def _row(mark: str, check: str, width: int, text: str) -> list[str]:
    """One row of the table, its last column wrapped."""
    begin = f"  {mark:<4}  {check:<{width}}  "
    return textwrap.wrap(text, _LINE_CHARS, initial_indent=begin, subsequent_indent=" " * len(begin)) or [begin]
