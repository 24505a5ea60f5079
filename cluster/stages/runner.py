"""The stages of a run, one after the other: which function runs which kind, and how one stands on the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cluster.config import save_config
from cluster.config.stages import RLStage
from cluster.driver import Driver
from cluster.record.journal import Journal
from cluster.session import Session
from cluster.stages.base_model import base_model
from cluster.stages.dpo import optimise_preferences
from cluster.stages.evaluation import evaluate_policy
from cluster.stages.jobs import merge
from cluster.stages.plan import PlannedStage, Standing, plan_of
from cluster.stages.rl import begin_rl, reinforce
from cluster.stages.sft import fine_tune, imitate_successes
from learner.checkpoint import ADAPTER
from protocol.errors import CheckpointError, ConfigError

ModelStage = Callable[[Session, PlannedStage, Path, Journal], Standing]
"""Makes a model folder of another one. Arguments: what stages work with, the stage, the model, the journal."""

MODEL_STAGES: Mapping[str, ModelStage] = {
    "sft": fine_tune,
    "rejection": imitate_successes,
    "dpo": optimise_preferences,
}
"""Stages that change the model itself, by `kind`; the other kind, `rl`, trains an adapter in the loop of
`cluster.driver`, by one of the algorithms of `learner.algorithms.registry`."""


class StageRunner:
    """Takes a run through its stages, from where it stands.

    Args:
        session: The processes.
        journal: Where results go.
    """

    def __init__(self, session: Session, journal: Journal) -> None:
        self._session = session
        self._journal = journal
        self._plan = plan_of(session.config, session.run)

    def execute(self) -> None:
        """Run every stage that is not finished.

        Raises:
            StopRequested: The user asked to stop.
            CroupierError: Whatever ended a stage.
        """
        standing = self._advance(self._plan)
        last = self._plan[-1]
        if last.settings.kind != "rl" and last.config.evaluation is not None:
            driver = self._session.driver(last, standing.model)
            driver.publish()
            evaluate_policy(self._session, last, driver, self._journal, "after")

    def models_only(self) -> Path:
        """Run the supervised stages that the run begins with, and return the folder of the result.

        Raises:
            ConfigError: The run does not begin with one.
        """
        first = next((n for n, stage in enumerate(self._plan) if stage.settings.kind != "sft"), len(self._plan))
        if not first:
            raise ConfigError(
                "This configuration does not begin with a supervised stage.",
                "fill in sft.steps and sft.demonstrations, or begin stages with one of kind sft",
            )
        return self._advance(self._plan[:first]).model

    def up_to_rl(self) -> Driver:
        """Run all stages but the last, which must be the one RL stage, and return a driver that is ready for it.

        Raises:
            ConfigError: The RL stage is not the last one, or not the only one.
        """
        kinds = [stage.settings.kind for stage in self._plan]
        if kinds.count("rl") != 1 or kinds[-1] != "rl":
            raise ConfigError(
                f"The stages are {', '.join(kinds)}; here exactly the last one must be of kind rl.",
                "leave the others out (stages.NAME=null), or use `croupier train`",
            )
        before = self._advance(self._plan[:-1])
        return begin_rl(self._session, self._plan[-1], self._begin(self._plan[-1], before), before)

    def _advance(self, plan: list[PlannedStage]) -> Standing:
        session = self._session
        standing = Standing(base_model(session.config, session.run, session.learner, session.progress, session.stop))
        begun = [stage.number for stage in plan if stage.number and stage.home.config.is_file()]
        for stage in plan:
            outcome = stage.outcome(standing)
            later = stage.number < max(begun, default=0)
            finished = outcome is not None and (later or not isinstance(stage.settings, RLStage))
            if later and not finished:
                raise CheckpointError(
                    f"Stage {stage.name} has left nothing behind, though a later one has begun.",
                    f"remove {stage.home.root.parent} to begin again with this stage",
                )
            standing = outcome if finished and outcome is not None else self._run(stage, standing)
        return standing

    def _run(self, stage: PlannedStage, before: Standing) -> Standing:
        model = self._begin(stage, before)
        settings = stage.settings
        if isinstance(settings, RLStage):
            return reinforce(self._session, stage, model, before, self._journal)
        self._session.rest()
        return MODEL_STAGES[settings.kind](self._session, stage, model, self._journal)

    def _begin(self, stage: PlannedStage, before: Standing) -> Path:
        """The model that the stage works on, with all that stages before it have learnt; its folder is there then."""
        model = stage.foundation(before)
        if before.checkpoint is not None and model != before.model and not model.is_dir():
            self._merge(before, before.checkpoint)
        if stage.number:
            stage.home.root.mkdir(parents=True, exist_ok=True)
            own = stage.config.model.model_copy(update={"path": str(model)})
            save_config(stage.config.model_copy(update={"model": own, "resume": None}), stage.home.config)
        return model

    def _merge(self, before: Standing, checkpoint: Path) -> None:
        session = self._session
        session.rest()
        with session.progress.phase("merge the adapter into the model"):
            merged = session.learner.perform.remote(
                merge,
                str(before.model),
                str(checkpoint / ADAPTER),
                str(before.merged_model),
                session.config.learner.compute,
            )
            session.ask(merged, "the adapter to be merged")
