"""One timed piece of work of either contender of the `learner` benchmark; both start from the same weights and rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil
import torch

from cluster.bench.gpu import work_clock
from cluster.bench.learner_cases import (
    COMPUTE,
    PPO_SETTINGS,
    SEED,
    Case,
    World,
    build_world,
    fresh_policy,
    sft_settings,
)
from cluster.bench.learner_plain import PlainPPO, plain_sft
from learner.config import LearnerConfig
from learner.rows import Rows
from learner.sft import run_sft
from learner.update import UpdateLoop

OURS, PLAIN = "ours", "plain"

_MIB = 1 << 20
_UNTIMED_STEPS = 2
"""First steps of an SFT run, in which optimizers set up their state."""


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """What a PPO update took and did."""

    took_s: float
    """Image processing included, loading the model not; see `cluster.bench.gpu.work_clock`."""
    gradients: tuple[torch.Tensor, ...]
    """Of adapter and critic as the first optimizer step got them."""
    adapter: tuple[torch.Tensor, ...]
    """After the last step."""


def update(who: str, world: World, rows: Rows, settings: LearnerConfig = PPO_SETTINGS) -> Update:
    """One PPO update from fresh weights, by the contender `who`; loading the model is not timed."""
    generator, seen = torch.Generator().manual_seed(SEED), []
    if who == OURS:
        policy = fresh_policy(world, settings)
        loop = UpdateLoop(policy, settings)
        optimizer, adapter = loop.optimizer, policy.adapter_parameters()
        run = lambda: loop.update(rows, policy_version=0, generator=generator)  # noqa: E731
    else:
        plain = PlainPPO(world, settings)
        optimizer, adapter = plain.optimizer, plain.adapter
        run = lambda: plain.update(rows, generator)  # noqa: E731

    def note_gradients(made: torch.optim.Optimizer, *_: object) -> None:
        seen.append(_gradients(made) if not seen else ())

    optimizer.register_step_pre_hook(note_gradients)
    began_s = work_clock()
    run()
    return Update(work_clock() - began_s, seen[0], tuple(p.detach().clone() for p in adapter.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """What steps of supervised fine-tuning took and did."""

    step_s: float
    """Median of all steps but the first ones; see `cluster.bench.gpu.work_clock`."""
    losses: tuple[float, ...]


def train(who: str, world: World, steps: int) -> Training:
    """Supervised fine-tuning from the world's model, by the contender `who`; images are processed before the first
    step and not timed."""
    stamps: list[tuple[float, float]] = []

    def on_step(_: int, loss: float) -> None:
        stamps.append((work_clock(), loss))

    if who == OURS:
        _run_ours(world, steps, on_step)
    else:
        for step, loss in enumerate(plain_sft(world, sft_settings(steps))):
            on_step(step, loss)
    spans = [after - before for (before, _), (after, _) in pairwise(stamps)]
    return Training(median(spans[_UNTIMED_STEPS:]), tuple(loss for _, loss in stamps))


def peak_mib(who: str, case: Case, rows: int, folder: str, sft_steps: int = 0) -> tuple[float, float]:
    """Meant for a new process: its resident memory before the work and its highest, in MiB.

    Args:
        who: the contender.
        case: model and game; the model lies below `folder`.
        rows: of the data.
        folder: where models are.
        sft_steps: steps of fine-tuning instead of a PPO update of all rows; 0: the update.
    """
    world = build_world(case, rows, 0.3, Path(folder))
    before = psutil.Process().memory_info().rss / _MIB
    if sft_steps:
        train(who, world, sft_steps)
    else:
        update(who, world, world.rows)
    return before, _highest_mib()


def distance(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    """Euclidean distance of two lists of tensors, relative to the length of the second."""
    pairs = list(zip(found, expected, strict=True))
    off = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    return (off / sum(float(b.double().square().sum()) for _, b in pairs)) ** 0.5


def _run_ours(world: World, steps: int, on_step: Callable[[int, float], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="croupier-sft-") as folder:
        run_sft(
            world.folder,
            world.demonstrations,
            sft_settings(steps),
            seed=SEED,
            out_dir=Path(folder) / "model",
            compute=COMPUTE,
            on_step=on_step,
        )


def _gradients(optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor, ...]:
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    return tuple(p.grad.detach().clone() for p in parameters if p.grad is not None)


def _highest_mib() -> float:
    """Highest resident memory of this process so far (VmHWM), in MiB."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
