"""Benchmark `learner`: a PPO update and supervised fine-tuning, beside a plain loop over transformers and peft.

Both contenders compute the same losses of the same rows from the same weights, in turn, in one process on one thread;
their gradients are compared as they run. Times are CPU time; on a GPU, wall clock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from cluster.bench.fresh_process import FreshProcess
from cluster.bench.gpu import peak_flops, update_flops
from cluster.bench.learner_cases import PPO_SETTINGS, SIZES, Case, World, build_world, sampled_rows
from cluster.bench.learner_runs import OURS, PLAIN, Training, Update, distance, peak_mib, train, update
from cluster.bench.registry import BenchSettings
from cluster.bench.result import Findings
from cluster.bench.timing import interleave
from cluster.record.progress import RunProgress
from learner.families.parts import part_of
from learner.products import onednn_is_faster

PPO, SFT, MEMORY, EQUAL = "PPO update", "SFT step", "memory", "relative difference"

GOAL = 3.0
"""How many times as many tokens per second as the plain loop."""

CASES = tuple(Case(game, size) for size in SIZES for game in ("NumberLine", "Points24"))

_NOISE = 0.3
"""Share of random actions in what is learnt from."""

_DEADLINE_S = 1800.0


def measure(settings: BenchSettings, progress: RunProgress) -> Findings:
    """Measure speed, memory and equality of both contenders on two games and two sizes of model."""
    findings = Findings()
    _explain(findings)
    repeats, rows, steps = (1, 48, 4) if settings.quick else (3, 256, 10)
    cases = CASES[:1] if settings.quick else CASES
    with tempfile.TemporaryDirectory(prefix="croupier-models-") as folder:
        for case in cases:
            with progress.phase(f"{case.name}: data", total=1):
                world = build_world(case, rows, _NOISE, Path(folder))
            with progress.phase(f"{case.name}: {PPO}", total=repeats + 1) as phase:
                _measure_ppo(findings, case, world, repeats, phase.update)
            with progress.phase(f"{case.name}: {SFT}", total=repeats + 1) as phase:
                _measure_sft(findings, case, world, repeats, steps, phase.update)
        for case in cases[-1:]:
            with progress.phase(f"{case.name}: {MEMORY}", total=4) as phase:
                _measure_memory(findings, case, rows, steps, folder, phase.update)
    return findings


def _measure_ppo(findings: Findings, case: Case, world: World, repeats: int, tick: Callable[[int], None]) -> None:
    rows = sampled_rows(world, PPO_SETTINGS)
    found: dict[str, list[Update]] = interleave(
        {who: lambda _, who=who: update(who, world, rows) for who in (OURS, PLAIN)}, repeats, tick
    )
    tokens = world.tokens * PPO_SETTINGS.ppo.epochs
    speeds = {who: [tokens / one.took_s for one in updates] for who, updates in found.items()}
    _add_speeds(findings, PPO, case, speeds)
    if torch.cuda.is_available() and (peak := peak_flops(torch.cuda.get_device_name())):
        wanted = update_flops(language_weights(world.folder), tokens)
        for who, updates in found.items():
            findings.row(
                PPO, case.name, f"{who}, of the GPU's peak", "%", [100 * wanted / one.took_s / peak for one in updates]
            )
    ours, plain = found[OURS][-1], found[PLAIN][-1]
    for what, pair in (
        ("gradient of the first PPO step", (ours.gradients, plain.gradients)),
        ("adapter after the update", (ours.adapter, plain.adapter)),
    ):
        findings.row(EQUAL, case.name, what, "ppm", [1e6 * distance(*pair)])


def _measure_sft(
    findings: Findings, case: Case, world: World, repeats: int, steps: int, tick: Callable[[int], None]
) -> None:
    found: dict[str, list[Training]] = interleave(
        {who: lambda _, who=who: train(who, world, steps) for who in (OURS, PLAIN)}, repeats, tick
    )
    tokens = world.tokens / len(world.rows) * min(64, len(world.rows))
    speeds = {who: [tokens / one.step_s for one in runs] for who, runs in found.items()}
    _add_speeds(findings, SFT, case, speeds)
    losses = zip(found[OURS][-1].losses, found[PLAIN][-1].losses, strict=True)
    gap = max(abs(ours - plain) / plain for ours, plain in losses)
    findings.row(EQUAL, case.name, f"loss, most in {steps} SFT steps", "ppm", [1e6 * gap])


def _measure_memory(
    findings: Findings, case: Case, rows: int, steps: int, folder: str, tick: Callable[[int], None]
) -> None:
    done = 0
    for what, sft_steps in ((PPO, 0), (SFT, steps)):
        added: dict[str, float] = {}
        for who in (OURS, PLAIN):
            with FreshProcess() as process:
                before, peak = process.call(_DEADLINE_S, peak_mib, who, case, rows, folder, sft_steps)
            added[who] = peak - before
            findings.row(MEMORY, f"{case.name} {what}", f"{who}, peak", "MiB", [peak])
            findings.row(MEMORY, f"{case.name} {what}", f"{who}, by the work", "MiB", [added[who]])
            done += 1
            tick(done)
        findings.ratio(MEMORY, f"{case.name} {what}", f"{PLAIN} / {OURS}, by the work", [added[PLAIN]], [added[OURS]])


def language_weights(model: Path) -> int:
    """Weights of a model's text part, which every token passes; the vision part sees pictures, not tokens."""
    with torch.device("meta"):
        skeleton = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(model))
    return sum(weight.numel() for name, weight in skeleton.named_parameters() if part_of(name) == "language")


def _add_speeds(findings: Findings, part: str, case: Case, speeds: dict[str, list[float]]) -> None:
    for who in (OURS, PLAIN):
        findings.row(part, case.name, who, "tokens/s", speeds[who])
    findings.ratio(part, case.name, f"{OURS} / {PLAIN}", speeds[OURS], speeds[PLAIN], GOAL)


def _explain(findings: Findings) -> None:
    ppo = PPO_SETTINGS.ppo
    findings.note(
        f"{PPO}: {ppo.epochs} epochs over 256 rows in minibatches of {ppo.minibatch_size}, values of all states first, "
        "LoRA on the language layers, the vision part frozen; pictures are decoded and resized within the time. A "
        "token is one of a row's prompt or response, counted once per epoch, however often it is computed. Rows are "
        f"the scripted expert's with {100 * _NOISE:.0f}% random actions, with the fresh policy's own log-probs."
    )
    findings.note(
        f"{SFT}: all weights, 64 rows a step, the median of the later steps; pictures are processed before. "
        f"'{PLAIN}' keeps them as they are, '{OURS}' unpacks them from its compressed memory within the time."
    )
    findings.note(
        f"'{PLAIN}' is transformers and peft as their users call them: whole models with pixel values, real "
        "minibatches, logits at response positions only, pictures processed once per row, AdamW; same losses, "
        "same minibatches. Two correct programs differ by rounding alone, which Adam's first steps enlarge."
    )
    if torch.cuda.is_available():
        findings.note("On the GPU: bfloat16, wall clock; its memory is not among the numbers above.")
        return
    kernels = "oneDNN, which torch by itself does not use here" if onednn_is_faster() else "torch's own library"
    findings.note(f"float32 on one thread of a CPU; ours multiplies matrices by {kernels}.")
