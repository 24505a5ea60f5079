"""A small result with everything a result may hold."""

from __future__ import annotations

from cluster.bench.result import BenchResult, Findings, Machine

MACHINE = Machine(
    cpu="Some CPU",
    cores=2,
    usable_cores=1,
    memory_bytes=3 << 29,
    gpus=(),
    system="Linux 6",
    load_average=0.5,
    versions={"python": "3.11.7"},
)


def some_findings() -> Findings:
    findings = Findings()
    findings.row("cards", "Game reset", "ours", "ms", [0.02, 0.01, 0.03])
    findings.row("cards", "Game reset", "theirs", "ms", [2.0, 3.0, 3.0])
    findings.row("cards", "Game play", "ours", "steps/s", [1500.0], at_least=2000)
    findings.ratio("cards", "Game reset", "theirs / ours", [2.0, 3.0, 3.0], [0.02, 0.01, 0.03], at_least=20)
    findings.row("text", "load", "[new]", "MiB", [123456.0])
    findings.reference("cards", "Game reset", 45.0, "ms", "elsewhere")
    findings.note("A note with [brackets].")
    return findings


def some_result(quick: bool = False) -> BenchResult:
    findings = some_findings()
    return BenchResult(
        name="cards",
        about="What cards cost",
        command="croupier bench cards",
        date="2024-01-02T03:04:05+00:00",
        quick=quick,
        wall_s=1.5,
        machine=MACHINE,
        rows=tuple(findings.rows),
        ratios=tuple(findings.ratios),
        references=tuple(findings.references),
        notes=tuple(findings.notes),
    )
