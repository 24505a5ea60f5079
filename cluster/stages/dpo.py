"""The stage that optimises preferences: right responses of the model's own against wrong ones to the same state."""

from __future__ import annotations

from pathlib import Path

from cluster.config.stages import DPOStage
from cluster.record.journal import Journal
from cluster.session import Session
from cluster.stages.jobs import prefer
from cluster.stages.plan import PlannedStage, Standing
from cluster.stages.rows import rows_of
from cluster.stages.sft import show_step
from learner.stage_settings import DPOConfig


def optimise_preferences(session: Session, stage: PlannedStage, model: Path, journal: Journal) -> Standing:
    """Run a stage of kind `dpo`; its adapter is merged into the model that it leaves behind."""
    settings, config = stage.settings, stage.config
    assert isinstance(settings, DPOStage)
    rows = rows_of(session, stage, model, journal)
    plain = DPOConfig(**{name: getattr(settings, name) for name in DPOConfig.model_fields})
    with session.progress.phase(f"{stage.name}: preference optimisation", total=settings.steps) as phase:
        result = session.learner.perform.remote(
            prefer,
            str(model),
            str(rows),
            plain,
            settings.pairs,
            config.method,
            config.seed,
            str(stage.home.model),
        )
        metrics = session.ask(result, stage.name, meanwhile=lambda: show_step(session.learner, phase))
        phase.summarize(
            f"{settings.steps} steps on {metrics['pairs']:.0f} pairs of {metrics['states']:.0f} states, "
            f"loss {metrics['first_loss']:.2f} -> {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.1%}, "
            f"margin {metrics['margin']:.2f}"
        )
    journal.write_steps(stage, session.ask(session.learner.history.remote(), "the steps of the stage"))
    journal.note(stage, metrics=metrics)
    return Standing(stage.home.model)
