"""`croupier sft`: the supervised stage alone."""

from __future__ import annotations

from pathlib import Path

from cluster.config import RunConfig, save_config
from cluster.learner_actor import spawn_learner
from cluster.preflight import check_before_start
from cluster.processes import end_actor
from cluster.progress import RunProgress
from cluster.ray_session import ray_session
from cluster.run_dir import RunDir
from cluster.signals import stop_on_signal
from cluster.stages import base_model, image_token_counts, supervised_stage
from cluster.waiting import StopFlag, StopRequested
from protocol.errors import ConfigError


def supervised_only(config: RunConfig) -> Path | None:
    """Build or take the base model, fine-tune it, and return the folder of the result; None if it was stopped.

    Raises:
        ConfigError: The configuration has no supervised stage.
        CroupierError: Whatever ended the stage.
    """
    if config.sft is None:
        raise ConfigError("sft is null in this configuration.", "fill in sft.steps and sft.demonstrations")
    progress, stop = RunProgress(), StopFlag()
    check_before_start(config, progress)
    run = RunDir.create(config.runs_dir, config.name)
    save_config(config, run.config)
    with ray_session(config.ray, logical_cpus=1), stop_on_signal(stop, progress):
        learner = spawn_learner(num_cpus=1, num_gpus=config.learner.gpus)
        try:
            base = base_model(config, run, learner, progress, stop)
            counts = image_token_counts(config, base, learner)
            supervised_stage(config, config.sft, base, counts, run.model, learner, progress, stop)
        except StopRequested:
            progress.say("Stopped before the model was finished.")
            return None
        finally:
            end_actor(learner)
    return run.model
