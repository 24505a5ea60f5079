"""The whole recipe of a configuration, from nothing to a report of success before and after RL."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from actors.vocabulary import banned_token_ids
from cluster.card import run_card
from cluster.config import RunConfig, load_config, save_config
from cluster.driver import Driver
from cluster.evaluation import EvaluationResult, Panel, evaluate
from cluster.learner_actor import LearnerActor
from cluster.metrics import MetricsWriter
from cluster.model_stage import env_maker, make_canaries
from cluster.placement import Placement, check_fits, demand_of, local_gpus
from cluster.processes import end_actor
from cluster.progress import Phase, RunProgress
from cluster.ray_session import ray_session, resolve_address
from cluster.run_dir import RunDir, write_json
from cluster.server_pool import ServerPool
from cluster.stages import base_model, image_token_counts, supervised_stage
from cluster.waiting import StopFlag, StopRequested, wait_for
from cluster.worker_actor import WorkerSpec
from cluster.worker_pool import WorkerPool
from learner.config import LearnerConfig
from learner.model_folder import check_model_folder
from protocol.episode import EpisodeResult
from protocol.errors import ConfigError

FIXED_ON_RESUME = ("env", "model", "seed", "deterministic", "learner")
"""Keys that must be the same when a run goes on: the checkpoint means nothing under others."""


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
    check_before_start(config)
    progress = progress or RunProgress()
    run = RunDir.open(config.resume) if config.resume else RunDir.create(config.runs_dir, config.name)
    if config.resume:
        _check_same_run(config, run)
    else:
        save_config(config, run.config)
    progress.say(f"Run directory: {run.root}")
    result = TrainResult(run)
    stop = StopFlag()
    demand = demand_of(config)
    with ray_session(config.ray, logical_cpus=max(1, round(demand.cpus))), stop_on_signal(stop, progress):
        try:
            Training(config, result, progress, stop).execute()
            result.finished = True
        except StopRequested:
            progress.say(f"Stopped. Go on with: croupier train <config> resume={run.root}")
    return result


def check_before_start(config: RunConfig) -> None:
    """Everything that can be found wrong before a process is started or anything heavy is loaded.

    Raises:
        ConfigError, ModelFolderError, PlacementError, envs.errors.EnvError: What is wrong, and the cure.
    """
    if config.model.path is not None:
        check_model_folder(config.model.path)
    env, _ = env_maker(config.env)()
    env.close()
    if resolve_address(config.ray) is None:
        demand = demand_of(config)
        # A private cluster has as many logical CPUs as the run needs; GPUs cannot be made up.
        check_fits(demand, float("inf"), local_gpus() if demand.gpus else 0, where="this machine")


class Training:
    """The stages of one run, in order; owns every process it starts."""

    def __init__(self, config: RunConfig, result: TrainResult, progress: RunProgress, stop: StopFlag) -> None:
        self._config = config
        self._result = result
        self._run = result.run
        self._progress = progress
        self._stop = stop
        self._processes = ExitStack()

    def execute(self) -> None:
        """Run all stages; processes are ended whatever happens."""
        with self._processes:
            placement = Placement(self._config, self._config.ray.start_timeout_s)
            self._processes.callback(placement.release)
            # A second thread answers questions about progress while the first computes.
            options = {**placement.learner_options(), "max_concurrency": 2}
            learner = ray.remote(LearnerActor).options(**options).remote()
            self._processes.callback(end_actor, learner)
            model = self._model(learner)
            driver = self._start(learner, placement, model)
            self._loop(driver)

    def _model(self, learner: Any) -> Path:
        """The folder that adapters belong to; a resumed run finds it ready."""
        config, run = self._config, self._run
        if config.resume and run.model.is_dir():
            return run.model
        base = base_model(config, run, learner, self._progress, self._stop)
        if config.sft is None:
            return base
        counts = image_token_counts(config, base, learner)
        supervised_stage(config, config.sft, base, counts, run.model, learner, self._progress, self._stop)
        return run.model

    def _start(self, learner: Any, placement: Placement, model: Path) -> Driver:
        """Bring up servers, workers and the learner's policy, all at the same time."""
        config = self._config
        with self._progress.phase("start inference servers and rollout workers") as phase:
            servers_config = config.servers.model_copy(
                update={"deterministic": config.deterministic, "seed": config.seed}
            )
            servers = ServerPool(str(model), servers_config, placement, self._stop)
            self._processes.callback(servers.stop)
            counts = image_token_counts(config, model, learner)
            settings = LearnerConfig(**{k: getattr(config.learner, k) for k in LearnerConfig.model_fields})
            policy_ready = learner.start.remote(
                str(model), settings, banned_token_ids(model), config.seed, str(self._run.trajectories)
            )
            spec = WorkerSpec(
                run_id=self._run.root.name,
                model=str(model),
                env=config.env,
                image_tokens=counts,
                slots=config.workers.envs_per_worker,
                max_tokens=config.rollout.max_tokens,
                seed=config.seed,
                deterministic=config.deterministic,
                sample_deadline_s=config.servers.request_timeout_s,
            )
            workers = WorkerPool(spec, config.workers, servers.names, placement, self._stop)
            self._processes.callback(workers.stop)
            infos = servers.wait_started(lambda: phase.update(note="vLLM compiles and warms up"))
            workers.wait_started(config.ray.start_timeout_s)
            wait_for([policy_ready], "the learner to load the model", config.learner.update_timeout_s)
            info = infos[0]
            phase.summarize(f"{len(infos)} x {info.kind} {info.engine_version} {info.dtype}")
        canaries = make_canaries(config.env, str(model), config.seed)
        return Driver(config, self._run, learner, servers, workers, canaries, self._stop)

    def _loop(self, driver: Driver) -> None:
        """Evaluate, train, evaluate; a stop leaves a checkpoint of the last finished update."""
        config = self._config
        if config.resume:
            driver.restore()
        driver.publish()
        if not config.resume:
            driver.save()
            self._evaluate(driver, "before")
        metrics = MetricsWriter(
            self._run,
            tensorboard=config.tracking.tensorboard,
            resume_at=driver.progress.update if config.resume else None,
        )
        self._processes.callback(metrics.close)
        try:
            with self._progress.phase("reinforcement learning", total=config.rollout.updates) as phase:
                while driver.progress.update < config.rollout.updates:
                    self._update(driver, metrics, phase)
                    self._stop.raise_if_set()
                at = driver.progress
                phase.summarize(f"{at.env_steps} environment steps, {at.sampled_tokens} sampled tokens")
        finally:
            driver.save()
        self._evaluate(driver, "after")

    def _update(self, driver: Driver, metrics: MetricsWriter, phase: Phase) -> None:
        values = driver.iterate(lambda name: phase.update(driver.progress.update, name))
        update = driver.progress.update
        metrics.write(update, values)
        self._progress.row(update, self._config.rollout.updates, values)
        if update % self._config.checkpoints.every_updates == 0:
            driver.save()

    def _evaluate(self, driver: Driver, when: str) -> None:
        config, wanted = self._config, self._config.evaluation
        if wanted is None:
            return
        panel = Panel(config.env, wanted.seed, wanted.episodes)
        with self._progress.phase(f"evaluate {when} RL ({wanted.episodes} episodes greedy, {wanted.episodes} sampled)"):
            for mode, temperature in (("greedy", 0.0), ("sampled", config.rollout.temperature)):
                self._result.evaluations[f"{when}_{mode}"] = evaluate(
                    self._player(driver), panel, driver.policy_version, temperature
                )
        self._write_card(driver)

    def _player(self, driver: Driver) -> Callable[[Sequence[int], float], list[EpisodeResult]]:
        def play(seeds: Sequence[int], temperature: float) -> list[EpisodeResult]:
            return driver.workers.run_episodes(
                seeds,
                driver.policy_version,
                temperature,
                self._config.workers.rollout_timeout_s,
                meanwhile=driver.servers.supervise,
            )

        return play

    def _write_card(self, driver: Driver) -> None:
        at = driver.progress
        totals = {"updates": at.update, "env_steps": at.env_steps, "tokens": at.sampled_tokens, "rl_wall_s": at.wall_s}
        results = {name: r.to_json() for name, r in self._result.evaluations.items()}
        write_json(self._run.card, run_card(self._config, results, totals))


@contextmanager
def stop_on_signal(stop: StopFlag, progress: RunProgress) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a clean stop; the second one ends the program at once."""

    def handle(signum: int, frame: Any) -> None:
        if stop.is_set:
            raise KeyboardInterrupt
        stop.set()
        progress.say("Stopping: writing a checkpoint first (Ctrl-C again ends at once).")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _check_same_run(config: RunConfig, run: RunDir) -> None:
    """Raises ConfigError where a key that a checkpoint depends on differs from the run's own configuration."""
    saved = load_config(run.config)
    changed = [key for key in FIXED_ON_RESUME if getattr(saved, key) != getattr(config, key)]
    if changed:
        raise ConfigError(
            f"{run.root} was started with another {', '.join(changed)}.",
            f"resume with the run's own configuration: croupier train {run.config} resume={run.root}",
        )
