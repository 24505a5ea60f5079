"""Draw the curves of a soak: `python -m docs.plot_soak docs/benchmarks/soak.json docs/benchmarks/soak.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np

from cluster.bench.result import BenchResult
from cluster.bench.soak import PACE
from cluster.bench.soak_sampler import ADAPTERS, EVERYTHING, MEMORY, STORE

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - the backend has to be chosen first
from matplotlib.axes import Axes  # noqa: E402

INK, BLUE, ORANGE = "#333333", "#1f6fb2", "#d95f02"
NODE = (STORE, ADAPTERS)


def draw(result: BenchResult, out: Path) -> None:
    """Memory of every process since 10 % of the run, what the node holds beside them, and the pace."""
    figure, (processes, node, pace) = plt.subplots(
        1, 3, figsize=(14, 4), dpi=110, width_ratios=(5, 4, 4), layout="constrained"
    )
    _draw_processes(processes, result)
    for course in result.courses:
        if course.part == MEMORY and course.case in NODE:
            node.plot(*_curve(course.minutes, course.curve), lw=1.4, label=course.case)
    node.set(title="object store and tmpfs", xlabel="minutes", ylabel="MB")
    _draw_pace(pace, result)
    node.legend(fontsize=7, frameon=False)
    for axes in (node, pace):
        axes.set_ylim(0, 1.4 * axes.dataLim.y1)  # room for a legend above
    for axes in (processes, node, pace):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
    figure.savefig(out)
    plt.close(figure)


def _draw_processes(axes: Axes, result: BenchResult) -> None:
    for course in result.courses:
        if course.part == MEMORY and course.case not in NODE:
            minutes, values = _curve(course.minutes, course.curve)
            (line,) = axes.plot(minutes, values - course.at_tenth, label=f"{course.case}, {course.at_end:,.0f} MB")
            line.set_linewidth(1.2)
            if course.case == EVERYTHING:
                line.set(color=INK, linewidth=2.2)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.axhline(0, color=INK, lw=0.6, ls=":")
    axes.set(title="memory since 10 % of the run (MB at the end)", xlabel="minutes", ylabel="MB more than at 10 %")


def _draw_pace(axes: Axes, result: BenchResult) -> None:
    idle = axes.twinx()
    styles = (("all", axes, BLUE, "-"), ("engines idle", idle, ORANGE, "--"), ("learner idle", idle, ORANGE, ":"))
    for variant, own, colour, style in styles:
        rows = [row for row in result.rows if row.part == PACE and row.variant == variant]
        middles = [int(row.case.split()[0]) + 5 for row in rows]
        medians = [row.values.median for row in rows]
        own.plot(middles, medians, style, color=colour, marker="o", ms=3, label=variant)
    axes.set(title="pace by tenths of the run", xlabel="% of the run")
    axes.set_ylabel("environment steps/s", color=BLUE)
    idle.set_ylabel("idle, %", color=ORANGE)
    idle.set_ylim(0, 100)
    idle.spines["top"].set_visible(False)
    idle.legend(fontsize=7, frameon=False)


def _curve(minutes: float, values: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.linspace(0, minutes, len(values)), np.asarray(values)


if __name__ == "__main__":
    draw(BenchResult.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
