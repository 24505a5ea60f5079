"""Benchmark `soak`: memory of every process while an asynchronous run goes on and on.

The command line's own run of the local recipe, in this process; a thread looks at the process table every few seconds.
It ends by the clock, or with Ctrl-C and what there is by then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from cluster.bench.local_ray import local_ray
from cluster.bench.loop_runs import RECIPE
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.soak_course import FLOORS, SURE, TOLERANCE, RunTooShort, course_of
from cluster.bench.soak_processes import DRIVER, ENGINE, GCS, LEARNER, OTHERS, RAYLET, SERVER, WORKER
from cluster.bench.soak_progress import ENDLESS, SoakProgress, Update, paces, steps_at
from cluster.bench.soak_sampler import (
    ADAPTERS,
    COUNTS,
    EVERYTHING,
    MEMORY,
    STORE,
    Reader,
    Sample,
    sample_until_over,
)
from cluster.config import RunConfig, load_config, save_config
from cluster.preflight import check_before_start
from cluster.record.journal import Journal
from cluster.record.progress import RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.signals import stop_on_signal
from cluster.runtime.waiting import StopFlag, StopRequested
from cluster.session import open_session
from cluster.stages.runner import StageRunner

PACE = "pace by tenths of the run"
UNITS = {MEMORY: "MB", COUNTS: "number"}
ORDER = (DRIVER, LEARNER, WORKER, SERVER, ENGINE, STORE, ADAPTERS, RAYLET, GCS, OTHERS, EVERYTHING)
"""Lines of a table."""

ASYNCHRONOUS = (
    "name=soak",
    "deterministic=false",
    "evaluation=null",
    "learner.max_staleness=1",
    f"rollout.updates={ENDLESS}",
    "workers.count=2",
    "workers.envs_per_worker=32",
    "workers.cpus_per_worker=0.5",
)
"""What is changed in the local recipe."""
SMALL = (
    "servers.kind=transformers",
    "sft=null",
    "rollout.steps_per_update=32",
    "workers.count=1",
    "workers.envs_per_worker=16",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and how closely watched."""

    length_s: float
    every_s: float = 5.0
    overrides: Sequence[str] = ASYNCHRONOUS


QUICK = Plan(length_s=6.0, every_s=0.25, overrides=(*ASYNCHRONOUS, *SMALL))


def measure(settings: BenchSettings, progress: RunProgress) -> Findings:
    """Let the run go on, then tell the courses.

    Raises:
        RunTooShort: It was ended before anything can be said.
    """
    plan = QUICK if settings.quick else Plan(60 * settings.minutes)
    heard = SoakProgress(progress.console, plan.length_s)
    with tempfile.TemporaryDirectory(prefix="croupier-soak-") as folder, local_ray(progress):
        config = load_config(RECIPE, [*plan.overrides, f"runs_dir={folder}"])
        samples = watch_run(config, plan, heard)
    return report(samples, heard.updates, plan, config)


def watch_run(config: RunConfig, plan: Plan, progress: SoakProgress) -> list[Sample]:
    """Run the recipe until the time is over, or the user ends it, and sample it meanwhile; Ray must be connected."""
    check_before_start(config, progress)
    run = RunDir.create(config.runs_dir, config.name)
    save_config(config, run.config)
    stop = StopFlag()
    # The thread ends before the processes do: leaving the run sets the flag first.
    with ThreadPoolExecutor(1, thread_name_prefix="soak") as pool, stop_on_signal(stop, progress):
        reader = Reader()
        sampling = pool.submit(sample_until_over, reader.read, progress, plan.every_s, stop)
        try:
            with suppress(StopRequested), open_session(config, run, progress, stop) as session:
                StageRunner(session, Journal(config, run)).execute()
        finally:
            stop.set()
        return sampling.result()


def report(samples: Sequence[Sample], updates: Sequence[Update], plan: Plan, config: RunConfig) -> Findings:
    """Courses of all quantities, and the pace by tenths of the run.

    Raises:
        RunTooShort: There are too few samples, or no updates.
    """
    if len(samples) < 2 or not updates:
        raise RunTooShort(
            f"The run ended with {len(samples)} samples and {len(updates)} counted updates.", "let it run longer"
        )
    findings, length_s = Findings(), samples[-1].at_s
    for part, unit in UNITS.items():
        for case in _cases(samples, part):
            own = [sample for sample in samples if (part, case) in sample.values]
            if own[-1] is not samples[-1]:
                findings.note(f"{case}: gone after {own[-1].at_s / 60:.1f} minutes, and not told.")
                continue
            at_s = [sample.at_s for sample in own]
            values = [sample.values[part, case] for sample in own]
            findings.courses.append(course_of(part, case, unit, at_s, steps_at(updates, at_s), values))
    _report_pace(findings, updates, length_s)
    _explain(findings, updates, plan, config, length_s)
    return findings


def _cases(samples: Sequence[Sample], part: str) -> list[str]:
    """Everything that was ever seen of a part, in the order of `ORDER`."""
    seen = {case for sample in samples for own, case in sample.values if own == part}
    return sorted(seen, key=lambda case: (next(n for n, role in enumerate(ORDER) if role in case), case))


def _report_pace(findings: Findings, updates: Sequence[Update], length_s: float) -> None:
    by_tenth = paces(updates, length_s)
    for tenth, pace in by_tenth.items():
        case = f"{10 * tenth} to {10 * tenth + 10} %"
        findings.row(PACE, case, "all", "env steps/s", [pace.steps_per_s])
        findings.row(PACE, case, "sampled", "tokens/s", [pace.tokens_per_s])
        for who, share in pace.idle.items():
            if share == share:
                findings.row(PACE, case, f"{who} idle", "%", [100 * share])
    first, last = min(by_tenth), max(by_tenth)
    slow, fast = [by_tenth[last].steps_per_s], [by_tenth[first].steps_per_s]
    findings.ratio(PACE, f"{10 * last} to {10 * last + 10} %", "env steps/s / those of the first", slow, fast)


def _explain(findings: Findings, updates: Sequence[Update], plan: Plan, config: RunConfig, length_s: float) -> None:
    ended = f", ended by hand (of {plan.length_s / 60:g})" if length_s < plan.length_s else ""
    steps, restarts = sum(update.env_steps for update in updates), updates[-1].restarts
    findings.note(
        f"{length_s / 60:.1f} minutes{ended} after the first update: {len(updates):,} updates, {steps:,.0f} "
        f"environment steps; processes started anew: {restarts:.0f} (each fills its caches again, which reads as "
        f"growth). {config.env.label}, the local recipe with max_staleness 1, {config.workers.count} workers of "
        f"{config.workers.envs_per_worker} environments, engine {config.servers.kind}, no evaluations."
    )
    findings.note(
        "Memory of a process is what it holds resident and shares with nobody by way of a file or of shared memory "
        "(RSS minus shared), in MB of 10^6 bytes; the object store and the adapters' files are told apart, so nothing "
        f"counts twice. '{EVERYTHING}' is everything that is resident, libraries and touched pages of the object store "
        "included, a page of n processes as 1/n in each."
    )
    findings.note(
        "Levels are medians of the twentieth of the run that ends there. The slope is that of the least-squares line "
        "through the last two thirds, per 1,000 environment steps, with its standard error. 'grows': the line rises "
        f"there by more than {100 * TOLERANCE:g} % of the level, more than {FLOORS['MB']:g} MB (or "
        f"{FLOORS['number']:g} files or objects), and more than {SURE:g} standard errors; 'flat' otherwise."
    )
