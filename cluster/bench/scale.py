"""Benchmark `scale`: what more rollout workers bring, and what they cost the driver, with an engine that only waits.

Real workers, real environments, real Ray calls and the real capacity rule; the engine is a stub that answers after the
time that a response takes on a GPU, so that any number of workers can be fed on a small machine.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from cluster.bench.local_ray import local_ray
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.scale_stub import DEADLINE_S, Plan, StubServer
from cluster.config import WorkersConfig
from cluster.config.env import EnvConfig
from cluster.flow.capacity import Capacity
from cluster.flow.collector import ChunkCollector
from cluster.record.progress import RunProgress
from cluster.runtime.processes import end_actor
from cluster.runtime.waiting import StopFlag, get
from cluster.stages.model import corpus_of, image_sizes
from cluster.workers.actor import WorkerSpec
from cluster.workers.memory import MB
from cluster.workers.pool import WorkerPool
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from protocol.errors import DeadlineExceeded

PART = "rollout workers"
GOAL = 0.9
"""Least efficiency of eight times as many workers."""

SERVER = "scale-stub"
STEPS_PER_ORDER = 4
"""Steps of every slot in one chunk."""


QUICK = Plan(counts=(1, 2), slots=4, latency_s=0.1, batches=2)


@dataclass(frozen=True, slots=True)
class Pace:
    """What one number of workers reached."""

    steps_per_s: float
    driver_cpu_s: float
    """Per 1,000 environment steps."""
    worker_mb: float
    """Memory of the largest worker's own."""


def measure(settings: BenchSettings, progress: RunProgress) -> Findings:
    """Measure one number of workers after the other."""
    findings, plan = Findings(), QUICK if settings.quick else Plan()
    with tempfile.TemporaryDirectory(prefix="croupier-scale-") as name, local_ray(progress):
        env = EnvConfig()
        model = build_tiny_vlm(TinyVLMConfig(), TinyCorpus(*corpus_of(env, 0)), 0, Path(name) / "model")
        paces: dict[int, Pace] = {}
        with progress.phase(PART, total=len(plan.counts)) as phase:
            for done, count in enumerate(plan.counts, start=1):
                paces[count] = pace_of(model, env, count, plan)
                phase.update(done)
    _report(findings, plan, paces)
    return findings


def pace_of(model: Path, env: EnvConfig, count: int, plan: Plan) -> Pace:
    """Let `count` workers play against a stub of their own."""
    remote: Any = ray.remote(StubServer)
    server = remote.options(name=SERVER, num_cpus=0, max_concurrency=10_000).remote(str(model), plan)
    tokens = dict.fromkeys(image_sizes(env), 1)  # the stub returns prompts as they came
    spec = WorkerSpec("scale", str(model), env, tokens, plan.slots, 24, 0, False, DEADLINE_S)
    get(server.__ray_ready__.remote(), "the stub to start", DEADLINE_S)
    pool = WorkerPool(spec, WorkersConfig(count=count), [SERVER], None, StopFlag())
    try:
        pool.wait_started(DEADLINE_S)
        return _play(pool, count, plan)
    finally:
        pool.stop()
        end_actor(server)


def _play(pool: WorkerPool, count: int, plan: Plan) -> Pace:
    chunk = plan.slots * STEPS_PER_ORDER
    capacity = Capacity(chunk * count, 1)
    collector = ChunkCollector(pool, capacity, chunk, 1.0, lambda number: chunk)
    began_s = cpu_s = 0.0
    largest = 0
    for batch in range(plan.batches + 1):
        if batch == 1:
            began_s, cpu_s = time.monotonic(), time.process_time()
        chunks = _next_batch(collector)
        largest = max(largest, *(one.report.rss_bytes for one in chunks))
        capacity.acknowledge(batch + 1)
    steps = chunk * count * plan.batches
    took_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
    return Pace(steps / took_s, 1000 * cpu_s / steps, largest / MB)


def _next_batch(collector: ChunkCollector) -> list[Any]:
    end = time.monotonic() + DEADLINE_S
    while (chunks := collector.take()) is None:
        collector.tend(1.0)
        if time.monotonic() > end:
            raise DeadlineExceeded(f"Waited {DEADLINE_S:g} s for rows: {collector.under_way}.", "use fewer workers")
    return chunks


def _report(findings: Findings, plan: Plan, paces: dict[int, Pace]) -> None:
    for count, pace in paces.items():
        case = f"{count:3d} x {plan.slots} environments"
        findings.row(PART, case, "all", "env steps/s", [pace.steps_per_s])
        findings.row(PART, case, "driver", "CPU s per 1,000 steps", [pace.driver_cpu_s])
        findings.row(PART, case, "largest worker", "MB", [pace.worker_mb])
    for count, pace in paces.items():
        saturated = plan.capacity / plan.latency_s
        base = paces.get(count // 8)
        if base is not None and count % 8 == 0:
            case = f"{count // 8} -> {count} workers"
            ideal = min(8 * base.steps_per_s, saturated)
            findings.ratio(PART, case, "reached / the most that is possible", [pace.steps_per_s], [ideal], GOAL)
    findings.note(
        f"The engine is a stub: {plan.latency_s:g} s for every response, {plan.capacity} at a time, hence at most "
        f"{plan.capacity / plan.latency_s:g} steps/s. Workers, environments (NumberLine), Ray and the capacity rule "
        "(max_staleness 1, versions acknowledged at once) are real, and share this machine's cores."
    )
