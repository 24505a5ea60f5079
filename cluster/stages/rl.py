"""The RL stage: evaluate, train, evaluate, with checkpoints between."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from cluster.config.stages import RLStage
from cluster.driver import Driver
from cluster.record.journal import Journal
from cluster.record.metrics import MetricsWriter
from cluster.record.progress import Phase, flow_note
from cluster.session import Session
from cluster.stages.evaluation import evaluate_policy
from cluster.stages.plan import PlannedStage, Standing


def begin_rl(session: Session, stage: PlannedStage, model: Path, before: Standing) -> Driver:
    """A driver whose policy every server has acknowledged: the stage's own checkpoint's, else the stage before's if it
    is to be kept, else a fresh adapter."""
    settings = stage.settings
    assert isinstance(settings, RLStage)
    driver = session.driver(stage, model)
    if stage.home.has_checkpoint():
        driver.restore()
    elif stage.keeps_adapter(before) and before.checkpoint is not None:
        driver.take_over(before.checkpoint, fresh_optimizer=settings.optimizer == "fresh")
    driver.publish()
    return driver


class Recipe:
    """What is done with a driver that is ready: evaluate, train, evaluate."""

    def __init__(self, session: Session, stage: PlannedStage, driver: Driver, journal: Journal) -> None:
        self._session = session
        self._stage = stage
        self._config = stage.config
        self._driver = driver
        self._journal = journal
        self._flow = ""

    def execute(self) -> None:
        """Run to the end; however it ends, a checkpoint of the last finished update is there.

        Raises:
            StopRequested: The user asked to stop.
        """
        config, driver, stage = self._config, self._driver, self._stage
        driver.save()
        if driver.progress.update == 0:
            self._evaluate("before")
        metrics = MetricsWriter(
            stage.home,
            tensorboard=config.tracking.tensorboard,
            resume_at=driver.progress.update if self._session.config.resume else None,
            stage=stage.name if stage.number else None,
        )
        title = f"{stage.name}: reinforcement learning" if stage.number else "reinforcement learning"
        try:
            with self._session.progress.phase(title, total=config.rollout.updates) as phase:
                while driver.progress.update < config.rollout.updates:
                    self._update(metrics, phase)
                    self._session.stop.raise_if_set()
                driver.settle(lambda name: phase.update(driver.progress.update, name))
                at = driver.progress
                phase.summarize(f"{at.env_steps} environment steps, {at.sampled_tokens} sampled tokens")
            driver.save()
        except BaseException as error:
            self._save_in_spite_of(error)
            raise
        finally:
            metrics.close()
            self._note_totals()
        self._evaluate("after")

    def _save_in_spite_of(self, error: BaseException) -> None:
        """Keep the finished updates; if that fails too, the first error is the one to report."""
        try:
            self._driver.save()
        except Exception as second:
            error.add_note(f"The last checkpoint is an older one: writing a new one failed ({second}).")

    def _update(self, metrics: MetricsWriter, phase: Phase) -> None:
        driver, progress = self._driver, self._session.progress
        values = driver.iterate(lambda name: phase.update(driver.progress.update, f"{name}  {self._flow}"))
        update = driver.progress.update
        self._flow = flow_note(values)
        metrics.write(update, values)
        progress.row(update, self._config.rollout.updates, values)
        if update % self._config.checkpoints.every_updates == 0:
            driver.save()

    def _evaluate(self, when: str) -> None:
        evaluate_policy(self._session, self._stage, self._driver, self._journal, when)

    def _note_totals(self) -> None:
        at = asdict(self._driver.progress)
        totals = {"updates": at["update"], "env_steps": at["env_steps"], "tokens": at["sampled_tokens"]}
        self._journal.note(self._stage, totals=totals | {"rl_wall_s": at["wall_s"]})


def reinforce(session: Session, stage: PlannedStage, model: Path, before: Standing, journal: Journal) -> Standing:
    """Run a stage of kind `rl`."""
    driver = begin_rl(session, stage, model, before)
    Recipe(session, stage, driver, journal).execute()
    return Standing(model, stage.home.latest_checkpoint())
