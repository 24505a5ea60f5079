"""Benchmark `envs`: what environments and their language cost.

Times are CPU time: waiting for a core does not count. Sharing one still does, through its caches (twice as long has
been seen on a busy machine), so ratios are taken between neighbouring repeats.
"""

from __future__ import annotations

from cluster.bench.envs_adapters import measure_adapters
from cluster.bench.envs_alfworld import measure_alfworld
from cluster.bench.envs_cards import measure_cards
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.record.progress import RunProgress


def measure(settings: BenchSettings, progress: RunProgress) -> Findings:
    """Measure the card games beside a reconstruction of the original's drawing, their language, and ALFWorld."""
    findings = Findings()
    findings.note("All times are CPU time of one process that uses one core: steps/s are those of a whole core.")
    measure_cards(findings, settings, progress)
    measure_adapters(findings, settings, progress)
    measure_alfworld(findings, settings, progress)
    return findings
