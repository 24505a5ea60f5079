"""Stages that fine-tune the model's own weights: on demonstrations, on another run's rows, on its own successes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cluster.config.stages import RejectionStage, SFTStage
from cluster.record.journal import Journal
from cluster.record.progress import Phase
from cluster.runtime.waiting import get
from cluster.session import Session
from cluster.stages.base_model import image_token_counts
from cluster.stages.model import make_demonstrations
from cluster.stages.plan import PlannedStage, Standing
from cluster.stages.rows import rows_of, source_folder
from learner.config import SFTConfig
from learner.stage_settings import SelectionConfig


def fine_tune(session: Session, stage: PlannedStage, model: Path, journal: Journal) -> Standing:
    """Run a stage of kind `sft`: on the scripted expert's demonstrations, or on the rows of another run."""
    settings, config = stage.settings, stage.config
    assert isinstance(settings, SFTStage)
    with session.progress.phase(_title(stage, "supervised fine-tuning"), total=settings.steps) as phase:
        rows: Any
        beyond = ""
        if settings.rows is not None:
            rows = str(source_folder(session.config, session.run, settings.rows))
        else:
            counts = image_token_counts(config, model, session.learner)
            made = make_demonstrations(config.env, str(model), counts, settings.demonstrations, config.seed)
            rows = list(made.batches)
            beyond = f"; {made.given_up} episode(s) were beyond the expert" if made.given_up else ""
        metrics = _learn(session, stage, model, rows, None, phase)
        phase.summarize(f"{settings.steps} steps, {told_loss(metrics)}{beyond}")
    return _finished(session, stage, metrics, journal)


def imitate_successes(session: Session, stage: PlannedStage, model: Path, journal: Journal) -> Standing:
    """Run a stage of kind `rejection`: on the rows of the model's own successful episodes."""
    settings = stage.settings
    assert isinstance(settings, RejectionStage)
    rows = rows_of(session, stage, model, journal)
    with session.progress.phase(_title(stage, "learn from own successes"), total=settings.steps) as phase:
        metrics = _learn(session, stage, model, str(rows), settings.selection, phase)
        chosen = f"{metrics['rows_kept']:.0f} rows of {metrics['successes']:.0f} successes"
        phase.summarize(f"{settings.steps} steps on {chosen}, {told_loss(metrics)}")
    return _finished(session, stage, metrics, journal)


def _learn(
    session: Session, stage: PlannedStage, model: Path, rows: Any, selection: SelectionConfig | None, phase: Phase
) -> dict[str, float]:
    settings, config = stage.settings, stage.config
    assert isinstance(settings, SFTConfig)
    plain = SFTConfig(**{name: getattr(settings, name) for name in SFTConfig.model_fields})
    result = session.learner.run_sft.remote(
        str(model), rows, plain, config.learner.compute, config.seed, str(stage.home.model), selection
    )
    return session.ask(result, stage.name, meanwhile=lambda: show_step(session.learner, phase))


def _finished(session: Session, stage: PlannedStage, metrics: dict[str, float], journal: Journal) -> Standing:
    journal.write_steps(stage, session.ask(session.learner.history.remote(), "the steps of the stage"))
    journal.note(stage, metrics=metrics)
    return Standing(stage.home.model)


def _title(stage: PlannedStage, usual: str) -> str:
    return f"{stage.name}: {usual}" if stage.number else usual


def show_step(learner: Any, phase: Phase) -> None:
    """Show which step the learner is at, and its loss."""
    numbers = get(learner.progress.remote(), "progress of the learner")
    loss = numbers.get("loss", math.nan)
    phase.update(int(numbers.get("step", 0)), "" if math.isnan(loss) else f"loss {loss:.3f}")


def told_loss(metrics: dict[str, float]) -> str:
    """First and final loss in words."""
    return f"loss {metrics['first_loss']:.2f} -> {metrics['final_loss']:.3f}"
