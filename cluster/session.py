"""The processes of a run: the learner from beginning to end, servers and workers while a policy is played.

`train` and the Tune trainable both stand on it; every process started here is ended with the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.rewards import RewardWeights
from actors.vocabulary import banned_token_ids
from cluster.config import RunConfig, ServersConfig
from cluster.driver import Driver
from cluster.flow.pipeline import Pipeline
from cluster.learners.group import learner_processes
from cluster.record.progress import Phase, RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.placement import Placement
from cluster.runtime.processes import ask_learner
from cluster.runtime.waiting import StopFlag
from cluster.servers.pool import ServerPool
from cluster.stages.base_model import image_token_counts
from cluster.stages.model import make_canaries
from cluster.stages.plan import PlannedStage
from cluster.workers.actor import WorkerSpec
from cluster.workers.pool import WorkerPool


@contextmanager
def open_session(config: RunConfig, run: RunDir, progress: RunProgress, stop: StopFlag) -> Iterator[Session]:
    """Reserve what the run needs and start the learner's process; Ray must be connected.

    Raises:
        PlacementError, DeadlineExceeded: The cluster is too small, or too busy.
        LearnerDied, LearnerGroupBroken: Several learners did not find each other.
    """
    placement = Placement(config, config.ray.start_timeout_s)
    try:
        options = placement.learner_options()
        with learner_processes(config.learner, options, config.ray.start_timeout_s) as learner:
            session = Session(config, run, learner, placement, progress, stop)
            try:
                yield session
            finally:
                session.end_actors()
    finally:
        placement.release()


class Session:
    """What stages work with.

    Args:
        config: Of the whole run.
        run: The run directory.
        learner: Ray actor of `LearnerActor`; all stages' learning happens in it.
        placement: Where servers and workers go; None where nothing is to be played.
        progress: What the user sees.
        stop: Set when the user wants the run to end.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDir,
        learner: Any,
        placement: Placement | None,
        progress: RunProgress,
        stop: StopFlag,
    ) -> None:
        self.config = config
        self.run = run
        self.learner = learner
        self.progress = progress
        self.stop = stop
        self._placement = placement
        self._servers: ServerPool | None = None
        self._served: tuple[Path, ServersConfig] | None = None
        self._workers: WorkerPool | None = None
        self._holds_policy = False

    def driver(self, stage: PlannedStage, model: Path) -> Driver:
        """Bring up servers, workers and the learner's policy, all at the same time, to play `model` in this stage.

        Servers that hold the very model already stay as they are. The policy is a fresh adapter; the caller restores
        another one where it wants one, and publishes.

        Raises:
            StopRequested: The user asked to stop meanwhile.
            CroupierError: What did not start, and the cure.
        """
        with self.progress.phase("start inference servers and rollout workers") as phase:
            return self._driver(stage, model, phase)

    def ask(self, ref: Any, what: str, meanwhile: Callable[[], None] | None = None) -> Any:
        """Result of a call to the learner, which a wish to stop breaks off."""
        timeout_s = self.config.learner.update_timeout_s
        return ask_learner(ref, what, timeout_s, stop=self.stop, meanwhile=meanwhile)

    def rest(self) -> None:
        """End servers and workers, and let go of the policy: what comes next needs the memory and not them."""
        self.end_actors()
        self._forget_policy()

    def end_actors(self) -> None:
        """End servers and workers."""
        self._end_workers()
        if self._servers is not None:
            self._servers.stop()
            self._servers = self._served = None

    def _driver(self, stage: PlannedStage, model: Path, phase: Phase) -> Driver:
        config = stage.config
        self._end_workers()
        alternates = config.servers.sleep_while_learning
        if alternates:
            self._clear_gpu()
        began_servers = self._serve(model, config.engine)
        servers = self._servers
        assert servers is not None
        if alternates:  # engines measure what memory is free while they start: the learner's model comes after them
            servers.wait_started(lambda: phase.update(note="engines load and warm up"))
            servers.sleep()
        # Before the policy: the learner answers one call at a time, and the workers need this to start.
        image_tokens = image_token_counts(config, model, self.learner)
        self._forget_policy()
        policy_ready = self.learner.start.remote(
            str(model), config.method, banned_token_ids(model), config.seed, str(stage.home.trajectories)
        )
        self._holds_policy = True
        workers = self._workers = WorkerPool(
            self._worker_spec(stage, model, image_tokens), config.workers, servers.names, self._placement, self.stop
        )
        if began_servers:
            infos = servers.wait_started(lambda: phase.update(note="engines load and warm up"))
            phase.summarize(f"{len(infos)} x {infos[0].engine_version} {infos[0].dtype}")
        workers.wait_started(config.ray.start_timeout_s)
        ask_learner(policy_ready, "the learner to load the model", config.learner.update_timeout_s)
        canaries = make_canaries(config.env, str(model), config.seed)
        kind = Pipeline if config.learner.max_staleness else Driver
        return kind(config, stage.home, self.learner, servers, workers, canaries, self.stop, stage.number)

    def _serve(self, model: Path, engine: ServersConfig) -> bool:
        """Have servers for this model; returns whether they are new, and still starting."""
        if self._served == (model, engine):
            return False
        self.end_actors()
        self._servers = ServerPool(str(model), engine, self._placement, self.stop)
        self._served = (model, engine)
        return True

    def _worker_spec(self, stage: PlannedStage, model: Path, image_tokens: dict[tuple[int, int], int]) -> WorkerSpec:
        config, reward = stage.config, stage.config.rollout.reward
        return WorkerSpec(
            run_id=self.run.root.name,
            model=str(model),
            env=config.env,
            evaluated_env=config.evaluated_env,
            image_tokens=image_tokens,
            slots=config.workers.envs_per_worker,
            max_tokens=config.rollout.max_tokens,
            seed=config.seed,
            deterministic=config.deterministic,
            sample_deadline_s=config.servers.patience_s,
            rewards=RewardWeights(reward.environment, reward.recognition),
            carry_episodes=config.rollout.partial_episodes == "carry",
            name=stage.worker_name,
        )

    def _clear_gpu(self) -> None:
        """Have the learner hold no GPU memory."""
        self._forget_policy()
        self.ask(self.learner.free.remote(), "the learner to leave the GPU")

    def _forget_policy(self) -> None:
        if self._holds_policy:
            self.ask(self.learner.let_go.remote(), "the learner to let go of its policy")
            self._holds_policy = False

    def _end_workers(self) -> None:
        if self._workers is not None:
            self._workers.stop()
            self._workers = None
