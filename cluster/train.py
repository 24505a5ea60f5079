"""The whole recipe of a configuration, from nothing to success before and after RL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.card import run_card
from cluster.config import RunConfig, save_config
from cluster.driver import Driver
from cluster.evaluation import EvaluationResult, Panel, evaluate
from cluster.metrics import MetricsWriter
from cluster.placement import demand_of
from cluster.preflight import check_before_start, check_same_run
from cluster.progress import Phase, RunProgress
from cluster.ray_session import ray_session
from cluster.run_dir import RunDir, write_json
from cluster.session import open_session
from cluster.signals import stop_on_signal
from cluster.waiting import StopFlag, StopRequested
from protocol.episode import EpisodeResult
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
    result = TrainResult(run)
    stop = StopFlag()
    cpus = max(1, round(demand_of(config).cpus))
    with ray_session(config.ray, logical_cpus=cpus), stop_on_signal(stop, progress):
        try:
            with open_session(config, run, progress, stop) as driver:
                Recipe(config, driver, result, progress, stop).execute()
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


class Recipe:
    """What is done with a driver that is ready: evaluate, train, evaluate."""

    def __init__(
        self, config: RunConfig, driver: Driver, result: TrainResult, progress: RunProgress, stop: StopFlag
    ) -> None:
        self._config = config
        self._driver = driver
        self._result = result
        self._run = result.run
        self._progress = progress
        self._stop = stop

    def execute(self) -> None:
        """Run to the end; however it ends, a checkpoint of the last finished update is there.

        Raises:
            StopRequested: The user asked to stop.
        """
        config, driver = self._config, self._driver
        self._result.evaluations |= self._earlier_evaluations()
        driver.save()
        if driver.progress.update == 0:
            self._evaluate("before")
        metrics = MetricsWriter(
            self._run,
            tensorboard=config.tracking.tensorboard,
            resume_at=driver.progress.update if config.resume else None,
        )
        try:
            with self._progress.phase("reinforcement learning", total=config.rollout.updates) as phase:
                while driver.progress.update < config.rollout.updates:
                    self._update(metrics, phase)
                    self._stop.raise_if_set()
                at = driver.progress
                phase.summarize(f"{at.env_steps} environment steps, {at.sampled_tokens} sampled tokens")
            driver.save()
        except BaseException as error:
            self._save_in_spite_of(error)
            raise
        finally:
            metrics.close()
        self._evaluate("after")

    def _save_in_spite_of(self, error: BaseException) -> None:
        """Keep the finished updates; if that fails too, the first error is the one to report."""
        try:
            self._driver.save()
        except Exception as second:
            error.add_note(f"The last checkpoint is an older one: writing a new one failed ({second}).")

    def _update(self, metrics: MetricsWriter, phase: Phase) -> None:
        driver = self._driver
        values = driver.iterate(lambda name: phase.update(driver.progress.update, name))
        update = driver.progress.update
        metrics.write(update, values)
        self._progress.row(update, self._config.rollout.updates, values)
        if update % self._config.checkpoints.every_updates == 0:
            driver.save()

    def _evaluate(self, when: str) -> None:
        config, wanted = self._config, self._config.evaluation
        if wanted is None:
            return
        panel = Panel(config.env, wanted.seed, wanted.episodes)
        with self._progress.phase(f"evaluate {when} RL ({wanted.episodes} episodes greedy, {wanted.episodes} sampled)"):
            for mode, temperature in (("greedy", 0.0), ("sampled", config.rollout.temperature)):
                self._result.evaluations[f"{when}_{mode}"] = evaluate(
                    self._play, panel, self._driver.policy_version, temperature
                )
        self._write_card()

    def _earlier_evaluations(self) -> dict[str, EvaluationResult]:
        """What the run's card already holds, so that the last table shows both ends of a resumed run."""
        if not self._run.card.is_file():
            return {}
        results = json.loads(self._run.card.read_text())["results"]
        return {name: EvaluationResult.from_json(values) for name, values in results.items()}

    def _play(self, seeds: Sequence[int], temperature: float) -> list[EpisodeResult]:
        driver = self._driver
        return driver.workers.run_episodes(
            seeds,
            driver.policy_version,
            temperature,
            self._config.workers.rollout_timeout_s,
            meanwhile=driver.servers.supervise,
        )

    def _write_card(self) -> None:
        at = self._driver.progress
        totals = {"updates": at.update, "env_steps": at.env_steps, "tokens": at.sampled_tokens, "rl_wall_s": at.wall_s}
        results = {name: r.to_json() for name, r in self._result.evaluations.items()}
        write_json(self._run.card, run_card(self._config, results, totals))
