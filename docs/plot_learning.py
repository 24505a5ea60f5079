"""Draw the learning curve of a finished run: `python docs/plot_learning.py RUN OUT.png`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - the backend has to be chosen first

INK, BLUE, ORANGE, GREEN = "#333333", "#1f6fb2", "#d95f02", "#2a8a57"


def draw(run: Path, out: Path) -> None:
    """Success while training, the evaluations around it, and the return."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    card = json.loads((run / "card.json").read_text())
    figure, (success, returns) = plt.subplots(1, 2, figsize=(10, 3.6), dpi=110)
    steps = [row["run/env_steps"] for row in rows]
    success.plot(
        steps, [row["rollout/success_rate"] for row in rows], color=BLUE, lw=1.8, label="while training, sampled"
    )
    ends = {"before": 0, "after": steps[-1]}
    for mode, colour, shift in (("greedy", ORANGE, -60), ("sampled", GREEN, 60)):
        points = [(at + shift, card["results"][f"{when}_{mode}"]) for when, at in ends.items()]
        success.errorbar(
            [x for x, _ in points],
            [r["success_rate"] for _, r in points],
            yerr=[
                [max(0.0, r["success_rate"] - r["success_ci95"][0]) for _, r in points],
                [max(0.0, r["success_ci95"][1] - r["success_rate"]) for _, r in points],
            ],
            fmt="o",
            color=colour,
            capsize=3,
            label=f"evaluation, {mode} ({points[0][1]['episodes']} episodes, 95 %)",
        )
    success.set(xlabel="environment steps of RL", ylabel="success rate", ylim=(0, 1.03))
    success.legend(loc="lower right", fontsize=8, frameon=False)
    returns.plot(steps, [row["rollout/mean_return"] for row in rows], color=BLUE, lw=1.8)
    returns.axhline(1, color=INK, lw=0.8, ls=":")
    returns.annotate("best possible", (steps[0], 1), xytext=(0, -11), textcoords="offset points", fontsize=8, color=INK)
    returns.set(xlabel="environment steps of RL", ylabel="mean episode return")
    for axes in (success, returns):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{card['env']}, seed {card['seed']}", fontsize=10, color=INK)
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
