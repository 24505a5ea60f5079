"""The processes of one run: the learner, the servers and the workers, from placement to a driver that is ready.

`train` and the Tune trainable both stand on it; every process started here is ended with the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from actors.vocabulary import banned_token_ids
from cluster.config import RunConfig
from cluster.driver import Driver
from cluster.learner_actor import spawn_learner
from cluster.model_stage import make_canaries
from cluster.placement import Placement
from cluster.processes import ask_learner, end_actor
from cluster.progress import Phase, RunProgress
from cluster.run_dir import RunDir
from cluster.server_pool import ServerPool
from cluster.stages import base_model, image_token_counts, supervised_stage
from cluster.waiting import StopFlag
from cluster.worker_actor import WorkerSpec
from cluster.worker_pool import WorkerPool


@contextmanager
def open_session(config: RunConfig, run: RunDir, progress: RunProgress, stop: StopFlag) -> Iterator[Driver]:
    """Run the model's stages, start everything, restore a resumed run, and publish its policy.

    Ray must be connected. Yields a driver whose current policy every server has acknowledged.

    Raises:
        StopRequested: `stop` was set meanwhile.
        CroupierError: What did not start, and the cure.
    """
    with ExitStack() as processes:
        placement = Placement(config, config.ray.start_timeout_s)
        processes.callback(placement.release)
        learner = spawn_learner(**placement.learner_options())
        processes.callback(end_actor, learner)
        model = _model(config, run, learner, progress, stop)
        with progress.phase("start inference servers and rollout workers") as phase:
            driver = _start(config, run, model, learner, placement, stop, processes, phase)
        # A run that ended before its first checkpoint goes on with its model and a fresh adapter.
        if run.has_checkpoint():
            driver.restore()
        driver.publish()
        yield driver


def _model(config: RunConfig, run: RunDir, learner: Any, progress: RunProgress, stop: StopFlag) -> Path:
    """The folder that adapters belong to; a resumed run finds it ready."""
    if config.resume and run.model.is_dir():
        return run.model
    built = config.resume and run.base_model.is_dir()
    base = run.base_model if built else base_model(config, run, learner, progress, stop)
    if config.sft is None:
        return base
    counts = image_token_counts(config, base, learner)
    supervised_stage(config, config.sft, base, counts, run.model, learner, progress, stop)
    return run.model


def _start(
    config: RunConfig,
    run: RunDir,
    model: Path,
    learner: Any,
    placement: Placement,
    stop: StopFlag,
    processes: ExitStack,
    phase: Phase,
) -> Driver:
    """Bring up servers, workers and the learner's policy, all at the same time."""
    servers = ServerPool(str(model), config.engine, placement, stop)
    processes.callback(servers.stop)
    # Before the policy: the learner answers one call at a time, and the workers need this to start.
    image_tokens = image_token_counts(config, model, learner)
    policy_ready = learner.start.remote(
        str(model), config.method, banned_token_ids(model), config.seed, str(run.trajectories)
    )
    spec = WorkerSpec(
        run_id=run.root.name,
        model=str(model),
        env=config.env,
        image_tokens=image_tokens,
        slots=config.workers.envs_per_worker,
        max_tokens=config.rollout.max_tokens,
        seed=config.seed,
        deterministic=config.deterministic,
        sample_deadline_s=config.servers.patience_s,
    )
    workers = WorkerPool(spec, config.workers, servers.names, placement, stop)
    processes.callback(workers.stop)
    infos = servers.wait_started(lambda: phase.update(note="engines load and warm up"))
    workers.wait_started(config.ray.start_timeout_s)
    ask_learner(policy_ready, "the learner to load the model", config.learner.update_timeout_s)
    phase.summarize(f"{len(infos)} x {infos[0].engine_version} {infos[0].dtype}")
    canaries = make_canaries(config.env, str(model), config.seed)
    return Driver(config, run, learner, servers, workers, canaries, stop)
