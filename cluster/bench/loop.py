"""Benchmark `loop`: environment steps and sampled tokens per second, end to end, of three loops around one tiny model.

The original's shape, our lock-step and our asynchronous run, in turn in one run of the benchmark; then the latter two
again in simulated time, with engine and learner times as on GPUs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from cluster.bench.fresh_process import FreshProcess
from cluster.bench.learner_cases import PPO_SETTINGS, World
from cluster.bench.loop_original import Shares, original_loop
from cluster.bench.loop_runs import Speed, fine_tuned_model, train_speed
from cluster.bench.loop_simulated import ASYNCHRONOUS, BOUND, CASES, LOCK_STEP, TWO_VERSIONS, simulate
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.config.env import EnvConfig
from cluster.config.stages import DemonstrationConfig
from cluster.record.progress import RunProgress
from cluster.servers.idle import ENGINE_CAUSES
from cluster.stages.model import image_sizes, make_demonstrations
from learner.rows import gather_rows
from learner.tiny.config import TinyVLMConfig

REAL, SIMULATED = "two cores, real parts", "simulated GPUs"
ORIGINAL = "original's loop"

GOALS = {(ASYNCHRONOUS, ORIGINAL): 30.0, (ASYNCHRONOUS, LOCK_STEP): 1.5}
SIMULATED_GOAL, SATURATION_GOAL = 3.0, 0.95
MAX_TOKENS = 24
WORTH_TELLING = 0.05
"""Causes of idle engines that come to less of the time than this, in percent, are left out."""
_DEADLINE_S = 1200.0


def measure(settings: BenchSettings, progress: RunProgress) -> Findings:
    """Measure all three loops, then simulate two of them."""
    findings = Findings()
    repeats, steps, updates = (1, 6, 3) if settings.quick else (3, 64, 10)
    with tempfile.TemporaryDirectory(prefix="croupier-loop-") as name:
        folder = Path(name)
        with progress.phase("fine-tune the model", total=1):
            model = fine_tuned_model(folder, settings.quick)
        runs: dict[str, Callable[[int], Speed]] = {
            ORIGINAL: lambda _: _original(model, steps),
            LOCK_STEP: lambda n: train_speed(model, folder / f"lock{n}", updates, 0, settings.quick),
            ASYNCHRONOUS: lambda n: train_speed(model, folder / f"async{n}", updates, 1, settings.quick),
        }
        found: dict[str, list[Speed]] = {who: [] for who in runs}
        with progress.phase(REAL, total=repeats * len(runs)) as phase:
            for number in range(repeats):
                for place, (who, run) in enumerate(runs.items()):
                    found[who].append(run(number))
                    phase.update(number * len(runs) + place + 1)
    _report(findings, found)
    with progress.phase(SIMULATED, total=len(CASES)) as phase:
        for done, case in enumerate(CASES, start=1):
            _report_simulated(findings, case.name, simulate(case, updates=4 if settings.quick else 20))
            phase.update(done)
    _explain(findings, steps, updates)
    return findings


def _original(model: Path, steps: int) -> Speed:
    with FreshProcess() as process:
        shares: Shares = process.call(_DEADLINE_S, _play_original, model, steps)
    return Speed(shares.steps / shares.took_s, shares.tokens / shares.took_s, shares.sample_s / shares.took_s)


def _play_original(model: Path, steps: int) -> Shares:
    env = EnvConfig()
    counts = dict.fromkeys(image_sizes(env), TinyVLMConfig().image_tokens)
    batches = make_demonstrations(env, str(model), counts, DemonstrationConfig(steps=4, noise=0.0), 0).batches
    return original_loop(World(model, batches, gather_rows(batches)), env, PPO_SETTINGS, steps, MAX_TOKENS)


def _report(findings: Findings, found: dict[str, list[Speed]]) -> None:
    for who, speeds in found.items():
        findings.row(REAL, "NumberLine, 0.34M", who, "env steps/s", [speed.steps_per_s for speed in speeds])
    for who, speeds in found.items():
        findings.row(REAL, "NumberLine, 0.34M", who, "tokens/s", [speed.tokens_per_s for speed in speeds])
    for (ours, other), goal in GOALS.items():
        fast, slow = ([speed.steps_per_s for speed in found[who]] for who in (ours, other))
        findings.ratio(REAL, "NumberLine, 0.34M", f"{ours} / {other}", fast, slow, goal)
    for who in (LOCK_STEP, ASYNCHRONOUS):
        findings.row(REAL, "time without work", f"{who}, learner", "%", [100 * s.learner_idle for s in found[who]])
        findings.row(REAL, "time without work", f"{who}, engine", "%", [100 * s.engine_idle for s in found[who]])
    for who in (LOCK_STEP, ASYNCHRONOUS):
        for cause in ENGINE_CAUSES:
            idle = [100 * speed.engine_idle_by.get(cause, 0.0) for speed in found[who]]
            if max(idle) >= WORTH_TELLING:
                findings.row(REAL, "engine idle for", f"{who}, {cause}", "%", idle)


def _report_simulated(findings: Findings, case: str, found: dict[str, float]) -> None:
    for who in (LOCK_STEP, ASYNCHRONOUS, TWO_VERSIONS):
        findings.row(SIMULATED, case, who, "env steps/s", [found[who]])
    lock_step, bound = [found[LOCK_STEP]], [found[BOUND]]
    for who in (ASYNCHRONOUS, TWO_VERSIONS):
        findings.ratio(SIMULATED, case, f"{who} / {LOCK_STEP}", [found[who]], lock_step, SIMULATED_GOAL)
        findings.ratio(SIMULATED, case, f"{who} / the slower part alone", [found[who]], bound, SATURATION_GOAL)


def _explain(findings: Findings, steps: int, updates: int) -> None:
    findings.note(
        f"'{ORIGINAL}': one NumberLine, transformers' generate at batch 1, a second pass for the log-probs, 3 epochs "
        f"with mini-batches of one row, one thread; {steps} steps and their update. '{LOCK_STEP}' and "
        f"'{ASYNCHRONOUS}' (max_staleness 1): the shipped recipe with 64 environments, vLLM, 512 rows and 3 epochs an "
        f"update, {updates} updates of which the first two are not counted, evaluations left out. "
        "What the causes of idle engines mean: docs/asynchrony.md."
    )
    findings.note(
        "Simulated: our slots, streams and capacity rule, with an engine, environments, a learner and publications "
        "that take time on a clock that nobody waits for. Their times are assumptions, in "
        "cluster/bench/loop_simulated.py. Two parts that overlap are at most twice as fast as one after the other; "
        "what is gained beyond that is the wait for the longest response of a rollout and for the publication."
    )
