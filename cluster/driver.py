"""The loop: collect under the current policy, update, publish, and again.

The driver owns budgets, policy versions and checkpoints; it moves references, never rows. Everything it works with is
handed to it, so that the same loop runs under the command line, under Tune and in tests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from actors.report import RolloutReport
from cluster.config import RunConfig
from cluster.record.metrics import rollout_metrics
from cluster.record.run_dir import RunDir, read_state, write_state
from cluster.runtime.processes import ask_learner
from cluster.runtime.waiting import StopFlag
from cluster.servers.pool import ServerPool
from cluster.stages.jobs import keep_rows
from cluster.turns import Alternation, SideBySide, Turns
from cluster.workers.pool import Rollout, WorkerPool
from learner.algorithms.config import CRITIC_ALGORITHMS
from protocol.adapter import AdapterManifest, CanaryPrompt
from protocol.episode import EpisodeResult


@dataclass(slots=True)
class Progress:
    """Where the run stands; saved with every checkpoint."""

    update: int = 0
    """Policy updates done in this stage; in a run of one RL stage also the policy version that is current on all
    servers once published."""
    env_steps: int = 0
    sampled_tokens: int = 0
    wall_s: float = 0.0
    worker_states: list[dict[str, Any]] = field(default_factory=list)
    """State of every worker at the last batch boundary; empty before the first rollout."""


class Driver:
    """One actor-learner loop.

    Args:
        config: The run's configuration.
        run: Where checkpoints go.
        learner: Ray actor of `LearnerActor`, started.
        servers, workers: The pools, started; engines that alternate with the learner sleep.
        canaries: Fixed prompts that prove every publish.
        stop: Set when the user wants the run to end.
        stage: Number of the stage that the driver works for; its initial states are others than those of other
            stages.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDir,
        learner: Any,
        servers: ServerPool,
        workers: WorkerPool,
        canaries: tuple[CanaryPrompt, ...],
        stop: StopFlag,
        stage: int = 0,
    ) -> None:
        self._config = config
        self._stage = stage
        self._run = run
        self._learner = learner
        self.servers = servers
        self.workers = workers
        self._canaries = canaries
        self._stop = stop
        self._turns: Turns = SideBySide()
        if config.servers.sleep_while_learning:
            self._turns = Alternation(learner, servers, config.learner.update_timeout_s)
        self.progress = Progress()
        self.policy_version = -1
        """Version that every server has acknowledged; -1 before the first publish."""

    def publish(self) -> dict[str, float]:
        """Make the learner's current adapter the current policy on every server.

        Raises:
            AdapterRejected: A server answers with other log-probs than the learner; the old version stays current.
        """
        began = time.monotonic()
        manifest, values = self._deliver(*self._export())
        self.policy_version = manifest.policy_version
        self._retire(manifest.policy_version)
        return values | {"time/publish_s": time.monotonic() - began}

    def _export(self) -> tuple[Any, Any]:
        """Have the learner export its adapter: calls that answer with the manifest and with the package."""
        self._turns.of_learner()
        made, package = self._learner.package.options(num_returns=2).remote(self._canaries)
        return made, package

    def _deliver(self, made: Any, package: Any) -> tuple[AdapterManifest, dict[str, float]]:
        """Bring an exported adapter to every server; its manifest, and what the canaries said."""
        timeout_s = self._config.learner.update_timeout_s
        manifest: AdapterManifest = ask_learner(made, "the learner to export its adapter", timeout_s)
        self._turns.of_engines()
        acks = self.servers.publish(manifest, package)
        return manifest, {
            "publish/canary_max_abs_error": max(a.max_abs_error for a in acks),
            "publish/canary_base_gap": max(a.base_gap for a in acks),
        }

    def _retire(self, current: int) -> None:
        """Free the servers of the versions that no request may name any more."""
        self.servers.retire_before(current - self._config.learner.max_staleness)

    def iterate(self, show: Callable[[str], None] = lambda phase: None) -> dict[str, float]:
        """One update: collect, learn, publish.

        Args:
            show: Called with the name of the phase (sampling, learning, publishing) whenever the driver looks up.

        Raises:
            StopRequested: The user asked to stop during the rollout; nothing of it has been trained on.
        """
        began = time.monotonic()
        self._turns.of_engines()
        rollout = self._collect(lambda: self._look_around(show, "sampling"))
        self._turns.of_learner()
        update_began = time.monotonic()
        learnt = ask_learner(
            self._learner.update.remote(self.progress.update + 1, rollout.batches),
            "the learner's update",
            self._config.learner.update_timeout_s,
            meanwhile=lambda: self._look_around(show, "learning"),
        )
        values = rollout_metrics(rollout.reports, rollout.wall_s)
        values |= {f"learner/{k}": v for k, v in learnt.items()}
        values["time/update_s"] = time.monotonic() - update_began
        self._count(values, rollout.states)
        show("publishing")
        values |= self.publish()
        values["time/iteration_s"] = took_s = time.monotonic() - began
        values["idle/workers"] = 1 - rollout.wall_s / took_s
        values |= self._turns.metrics()
        return self._complete(values)

    def settle(self, show: Callable[[str], None] = lambda phase: None) -> None:
        """Wait for whatever is still under way after the last update; afterwards its policy is current."""

    def _count(self, values: Mapping[str, float], worker_states: list[dict[str, Any]]) -> None:
        """The learner has finished an update."""
        progress = self.progress
        progress.update += 1
        progress.env_steps += int(values["rollout/env_steps"])
        progress.sampled_tokens += int(values["rollout/sampled_tokens"])
        progress.worker_states = worker_states

    def _complete(self, values: dict[str, float]) -> dict[str, float]:
        """An update's numbers with those of the run; its wall clock is counted."""
        took_s = values["time/iteration_s"]
        self.progress.wall_s += took_s
        values |= {
            "idle/learner": 1 - values["time/update_s"] / took_s,
            **self.servers.idle_shares(),
            "run/env_steps": self.progress.env_steps,
            "run/policy_version": self.policy_version,
            "run/server_restarts": self.servers.restarts,
            "run/lost_rollouts": self.workers.lost_rollouts,
            "run/recycled_workers": self.workers.recycled,
        }
        return {k: float(v) if v is not None else math.nan for k, v in values.items()}

    def sample(self, episodes: int, group_size: int, show: Callable[[int], None]) -> dict[str, float]:
        """Play whole episodes under the current policy and keep their rows as Parquet; nothing is learnt.

        Args:
            episodes: How many, in portions of `rollout.episodes_per_update`.
            group_size: How many of them begin in one state.
            show: Called with the number of episodes that are done whenever the driver looks up.

        Returns:
            Metrics of all portions together.

        Raises:
            StopRequested: The user asked to stop; portions that are done stay on disk.
        """
        config, began = self._config, time.monotonic()
        self._turns.of_engines()
        seeds = config.group_seeds(episodes, group_size, 0, self._stage)
        reports: list[RolloutReport] = []
        size = config.rollout.episodes_per_update
        for number, start in enumerate(range(0, episodes, size), start=1):
            rollout = self.workers.collect_episodes(
                seeds[start : start + size],
                self.policy_version,
                config.rollout.temperature,
                config.workers.rollout_timeout_s,
                partial(self._look_around, lambda _, done=start: show(done), "sampling"),
            )
            ask_learner(
                self._learner.perform.remote(keep_rows, str(self._run.trajectories), number, rollout.batches),
                "sampled rows to be written",
                config.learner.update_timeout_s,
            )
            reports += rollout.reports
        return rollout_metrics(reports, time.monotonic() - began)

    def play(self, seeds: Sequence[int], temperature: float) -> list[EpisodeResult]:
        """Play whole episodes of the evaluated environment under the current policy, one per seed."""
        self._turns.of_engines()
        timeout_s = self._config.workers.rollout_timeout_s
        return self.workers.run_episodes(
            seeds, self.policy_version, temperature, timeout_s, meanwhile=self.servers.supervise
        )

    def _collect(self, meanwhile: Callable[[], None]) -> Rollout:
        """Environment steps, or whole episodes where the algorithm compares such."""
        config = self._config
        common = self.policy_version, config.rollout.temperature, config.workers.rollout_timeout_s, meanwhile
        if config.learner.algorithm in CRITIC_ALGORITHMS:
            return self.workers.collect(config.rollout.steps_per_update, *common)
        return self.workers.collect_episodes(config.episode_seeds(self.progress.update, self._stage), *common)

    def save(self) -> None:
        """Write a checkpoint of the last finished update into the run directory."""
        keep = self._config.checkpoints.keep
        self._run.write_checkpoint(self.progress.update, asdict(self.progress), self._save_learner, keep)

    def save_to(self, folder: Path) -> None:
        """Write a checkpoint of the last finished update to a folder that does not exist yet."""
        self._save_learner(folder)
        write_state(folder, asdict(self.progress))

    def restore(self, checkpoint: Path | None = None) -> None:
        """Go on from a checkpoint, by default the newest of the run directory; the caller publishes.

        Raises:
            CheckpointError: There is no complete checkpoint, or it does not fit this configuration.
        """
        checkpoint = checkpoint or self._run.latest_checkpoint()
        self._turns.of_learner()
        self.progress = Progress(**read_state(checkpoint))
        ask_learner(
            self._learner.load.remote(str(checkpoint)),
            "the learner to read its checkpoint",
            self._config.learner.update_timeout_s,
        )
        if self.progress.worker_states:
            self.workers.load_states(self.progress.worker_states, self.progress.update)

    def take_over(self, checkpoint: Path, *, fresh_optimizer: bool) -> None:
        """Begin with what another stage has learnt, at update 0 and with episodes of one's own; the caller publishes.

        Raises:
            CheckpointError: It is no complete checkpoint, or does not fit this configuration.
        """
        self._turns.of_learner()
        ask_learner(
            self._learner.load.remote(str(checkpoint), fresh_optimizer),
            "the learner to read the checkpoint of the stage before",
            self._config.learner.update_timeout_s,
        )

    def _save_learner(self, folder: Path) -> None:
        ask_learner(
            self._learner.save.remote(str(folder), self._canaries),
            "the learner to write its checkpoint",
            self._config.learner.update_timeout_s,
            meanwhile=self._meanwhile,
        )

    def _meanwhile(self) -> None:
        """Called while a checkpoint is written."""

    def _look_around(self, show: Callable[[str], None], phase: str) -> None:
        self.servers.supervise()
        show(phase)
