"""The sampled rows that a stage learns from: played by the model at its beginning, or there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.config import RunConfig
from cluster.config.stages import DPOStage, RejectionStage, SFTStage
from cluster.record.journal import Journal
from cluster.record.run_dir import RunDir, write_json
from cluster.session import Session
from cluster.stages.evaluation import evaluate_policy
from cluster.stages.plan import PlannedStage
from protocol.errors import ConfigError


def rows_of(session: Session, stage: PlannedStage, model: Path, journal: Journal) -> Path:
    """Folder of the rows, sampled now if they are not there yet; whoever samples evaluates the model first.

    Raises:
        ConfigError: `samples.source` names nothing.
        StopRequested: The user asked to stop; a resumed run samples anew.
    """
    settings = stage.settings
    assert isinstance(settings, RejectionStage | DPOStage)
    if settings.samples.source is not None:
        return source_folder(session.config, session.run, settings.samples.source)
    if not stage.home.samples.is_file():
        write_json(stage.home.samples, _sample(session, stage, model, journal))
    journal.note(stage, samples=json.loads(stage.home.samples.read_text()))
    session.rest()
    return stage.home.trajectories


def _sample(session: Session, stage: PlannedStage, model: Path, journal: Journal) -> dict[str, Any]:
    settings = stage.settings
    assert isinstance(settings, RejectionStage | DPOStage)
    driver, samples = session.driver(stage, model), settings.samples
    driver.publish()
    if not journal.has_evaluated(stage, "before"):
        evaluate_policy(session, stage, driver, journal, "before")
    with session.progress.phase("sample episodes", total=samples.episodes) as phase:
        values = driver.sample(samples.episodes, samples.group_size, phase.update)
        phase.summarize(
            f"{int(values['rollout/env_steps'])} steps, {100 * values['rollout/success_rate']:.1f} % of "
            f"{samples.episodes} episodes successful"
        )
    return {key: value for key, value in values.items() if value == value}  # JSON knows no NaN


def source_folder(config: RunConfig, run: RunDir, source: str) -> Path:
    """Folder with the Parquet of an earlier stage of this run, or of another run, a stage of it, or itself.

    Raises:
        ConfigError: There is no such stage or folder, or it holds no rows.
    """
    if source in config.stages:
        number = list(config.stages).index(source) + 1
        earlier = config.stages[source]
        if isinstance(earlier, RejectionStage | DPOStage) and earlier.samples.source is not None:
            return source_folder(config, run, earlier.samples.source)
        return run.stage(number, source).trajectories
    folder = Path(source).absolute()
    for candidate in (folder / "trajectories", folder):
        if any(candidate.glob("steps-*.parquet")):
            return candidate
    stages = ", ".join(str(path.parent) for path in sorted(folder.glob("stages/*/trajectories")))
    raise ConfigError(
        f"There are no sampled rows in {source!r} (steps-*.parquet).",
        f"name one of its stages: {stages}" if stages else "name a run directory, or a stage of this run",
    )


def check_sources(config: RunConfig) -> None:
    """Refuse stages whose rows are to come from a folder that has none; before anything is started.

    Raises:
        ConfigError: See `source_folder`.
    """
    nowhere = RunDir(Path())
    for stage in config.stages.values():
        source = stage.rows if isinstance(stage, SFTStage) else None
        if isinstance(stage, RejectionStage | DPOStage):
            source = stage.samples.source
        if source is not None and source not in config.stages:
            source_folder(config, nowhere, source)
