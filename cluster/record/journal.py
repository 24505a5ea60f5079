"""What a run has found out so far, stage by stage: kept on its card, so that a resumed run knows it too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cluster.config import RunConfig
from cluster.evaluation import EvaluationResult
from cluster.record.card import run_card
from cluster.record.metrics import MetricsWriter
from cluster.record.run_dir import RunDir, write_json
from cluster.stages.plan import PlannedStage

SUMMED = ("updates", "env_steps", "tokens", "rl_wall_s")
"""Totals of the run: sums over its stages."""


class Journal:
    """Evaluations and numbers of a run; every entry is on disk when its method returns.

    Args:
        config: Of the whole run.
        run: Whose card it is; what that holds already is taken up.
    """

    def __init__(self, config: RunConfig, run: RunDir) -> None:
        self._config = config
        self._run = run
        self.evaluations: dict[str, EvaluationResult] = {}
        """By name: `before_greedy`, or `STAGE/before_greedy` where stages are named."""
        self._stages: dict[str, dict[str, Any]] = {}
        if run.card.is_file():
            saved = json.loads(run.card.read_text())
            self._stages = saved.get("stages", {})
            self.evaluations = {name: EvaluationResult.from_json(own) for name, own in saved["results"].items()}

    def evaluated(self, stage: PlannedStage, when: str, mode: str, result: EvaluationResult) -> None:
        """Note an evaluation of a stage."""
        self.evaluations[f"{stage.prefix}{when}_{mode}"] = result
        self._write()

    def has_evaluated(self, stage: PlannedStage, when: str) -> bool:
        """Whether there is any evaluation of that time."""
        return any(name.startswith(f"{stage.prefix}{when}_") for name in self.evaluations)

    def note(self, stage: PlannedStage, **numbers: Any) -> None:
        """Note what a stage amounted to, beside what is noted of it already."""
        own = self._stages.setdefault(stage.name, {"kind": stage.settings.kind, "env": stage.config.env.label})
        own |= numbers
        self._write()

    def write_steps(self, stage: PlannedStage, history: list[dict[str, float]]) -> None:
        """Write the metrics of every step of a stage that changed the model, as the rows of its folder's metrics."""
        if not stage.number:
            return  # the folder is the run's, whose rows are policy updates
        metrics = MetricsWriter(
            stage.home, tensorboard=stage.config.tracking.tensorboard, stage=stage.name, resume_at=0
        )
        try:
            for step, values in enumerate(history, start=1):
                metrics.write(step, {f"{stage.settings.kind}/{key}": value for key, value in values.items()})
        finally:
            metrics.close()

    def _write(self) -> None:
        results = {name: result.to_json() for name, result in self.evaluations.items()}
        write_json(self._run.card, run_card(self._config, results, self._totals(), self._stages))

    def _totals(self) -> Mapping[str, float]:
        totals = [own["totals"] for own in self._stages.values() if "totals" in own]
        return {key: sum(own[key] for own in totals) for key in SUMMED}
