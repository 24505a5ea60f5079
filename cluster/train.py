"""The whole recipe of a configuration, from nothing to success before and after its stages."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.config import RunConfig, save_config
from cluster.evaluation import EvaluationResult
from cluster.preflight import check_before_start, check_same_run
from cluster.record.journal import Journal
from cluster.record.progress import RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.placement import demand_of
from cluster.runtime.ray_session import ray_session
from cluster.runtime.signals import stop_on_signal
from cluster.runtime.waiting import StopFlag, StopRequested
from cluster.session import open_session
from cluster.stages.runner import StageRunner
from protocol.errors import CroupierError


@dataclass(slots=True)
class TrainResult:
    """Where the run is, whether it ran to its end, and its evaluations by name."""

    run: RunDir
    finished: bool = False
    evaluations: dict[str, EvaluationResult] = field(default_factory=dict)


def train(config: RunConfig, progress: RunProgress | None = None) -> TrainResult:
    """Run the recipe; Ctrl-C ends it with a checkpoint.

    Raises:
        ConfigError, ModelFolderError, PlacementError: Before any process is started.
        CroupierError: Whatever ended the run; the last checkpoint stays.
    """
    progress = progress or RunProgress()
    check_before_start(config, progress)
    run = _open_run(config)
    progress.say(f"Run directory: {run.root}")
    journal = Journal(config, run)
    result = TrainResult(run, evaluations=journal.evaluations)
    stop = StopFlag()
    cpus = max(1, round(demand_of(config).cpus))
    with ray_session(config.ray, logical_cpus=cpus), stop_on_signal(stop, progress):
        try:
            with open_session(config, run, progress, stop) as session:
                StageRunner(session, journal).execute()
            result.finished = True
        except StopRequested:
            progress.say(f"Stopped. Go on with: croupier train {run.config} resume={run.root}")
        except CroupierError:
            progress.say(f"Ended early. With the cause mended: croupier train {run.config} resume={run.root}")
            raise
    return result


def _open_run(config: RunConfig) -> RunDir:
    if config.resume is None:
        run = RunDir.create(config.runs_dir, config.name)
        save_config(config, run.config)
        return run
    run = RunDir.open(config.resume)
    check_same_run(config, run)
    return run
