"""`croupier sft`: the supervised stages that a run begins with, alone."""

from __future__ import annotations

from pathlib import Path

from cluster.config import RunConfig, save_config
from cluster.learners.group import learner_processes
from cluster.preflight import check_before_start
from cluster.record.journal import Journal
from cluster.record.progress import RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.ray_session import ray_session
from cluster.runtime.signals import stop_on_signal
from cluster.runtime.waiting import StopFlag, StopRequested
from cluster.session import Session
from cluster.stages.runner import StageRunner
from protocol.errors import ConfigError


def supervised_only(config: RunConfig) -> Path | None:
    """Build or take the base model, fine-tune it, and return the folder of the result; None if it was stopped.

    Raises:
        ConfigError: The configuration does not begin with a supervised stage.
        CroupierError: Whatever ended the stage.
    """
    if config.sft is None and not config.stages:
        raise ConfigError("sft is null in this configuration.", "fill in sft.steps and sft.demonstrations")
    progress, stop = RunProgress(), StopFlag()
    check_before_start(config, progress)
    run = RunDir.create(config.runs_dir, config.name)
    save_config(config, run.config)
    options = [{"num_cpus": 1, "num_gpus": config.learner.gpus}] * config.learner.count
    with (
        ray_session(config.ray, logical_cpus=len(options)),
        stop_on_signal(stop, progress),
        learner_processes(config.learner, options, config.ray.start_timeout_s) as learner,
    ):
        try:
            session = Session(config, run, learner, None, progress, stop)
            return StageRunner(session, Journal(config, run)).models_only()
        except StopRequested:
            progress.say("Stopped before the model was finished.")
            return None
