"""The stages of a run in their order, each with its own configuration and folder, and what one hands to the next.

Where a run stands is told by what is on disk alone, so that a run that ended anywhere goes on there, and so that
`evaluate` finds what was trained last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cluster.config import RunConfig, SFTStageConfig
from cluster.config.stages import DPOStage, RejectionStage, RLStage, SFTStage
from cluster.record.run_dir import RunDir

StageSettings = SFTStage | RejectionStage | DPOStage | RLStage


@dataclass(frozen=True, slots=True)
class Standing:
    """What a stage begins with: a model folder, and after an RL stage the checkpoint of an adapter on it."""

    model: Path
    checkpoint: Path | None = None

    @property
    def merged_model(self) -> Path:
        """Where the model with the checkpoint's adapter merged in belongs."""
        assert self.checkpoint is not None, "there is no adapter to merge"
        return RunDir(self.checkpoint.parent.parent).merged_model


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage of a run."""

    name: str
    settings: StageSettings
    config: RunConfig
    """The run's configuration with this stage's changes."""
    home: RunDir
    """Its folder; the run directory itself where the configuration names no stages."""
    number: int
    """Its place from 1 on; 0 where the configuration names no stages."""

    @property
    def prefix(self) -> str:
        """What the names of its evaluations begin with."""
        return f"{self.name}/" if self.number else ""

    @property
    def worker_name(self) -> str:
        """What the names of its workers begin with; their episodes follow from it."""
        return f"{self.name}-worker" if self.number else "worker"

    def keeps_adapter(self, before: Standing) -> bool:
        """Whether it goes on with the adapter that it finds."""
        return before.checkpoint is not None and isinstance(self.settings, RLStage) and self.settings.adapter == "keep"

    def foundation(self, before: Standing) -> Path:
        """The model folder that it works on."""
        if before.checkpoint is None or self.keeps_adapter(before):
            return before.model
        return before.merged_model

    def outcome(self, before: Standing) -> Standing | None:
        """What it has left behind: a complete model, or an adapter's newest checkpoint; None if neither."""
        if not isinstance(self.settings, RLStage):
            return Standing(self.home.model) if self.home.model.is_dir() else None
        if not self.home.has_checkpoint():
            return None
        return Standing(self.foundation(before), self.home.latest_checkpoint())


def plan_of(config: RunConfig, run: RunDir) -> list[PlannedStage]:
    """The stages of a run; without `stages`, those of the short form: `sft`, then RL."""
    if config.stages:
        return [
            PlannedStage(name, settings, config.of_stage(name), run.stage(number, name), number)
            for number, (name, settings) in enumerate(config.stages.items(), start=1)
        ]
    plan = [PlannedStage("rl", RLStage(kind="rl"), config, run, 0)]
    # A resumed run goes on with the model that it has, whatever the key says now.
    sft = config.sft or (SFTStageConfig() if run.model.is_dir() else None)
    if sft is not None:
        settings = SFTStage.model_validate({"kind": "sft", **sft.model_dump()})
        plan.insert(0, PlannedStage("sft", settings, config, run, 0))
    return plan


def base_folder(config: RunConfig, run: RunDir) -> Path:
    """The model that a run begins with."""
    return run.base_model if config.model.path is None else Path(config.model.path)


def latest(config: RunConfig, run: RunDir) -> tuple[PlannedStage | None, Standing]:
    """The last stage that has left something behind (None: not even the first has), and what that is."""
    found: tuple[PlannedStage | None, Standing] = (None, Standing(base_folder(config, run)))
    for stage in plan_of(config, run):
        outcome = stage.outcome(found[1])
        if outcome is not None:
            found = stage, outcome
        elif stage.number:
            break  # what follows has not begun; without named stages, a run may have begun without the first
    return found
