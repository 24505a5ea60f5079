"""The rollout workers of a run: one rollout over all of them, evaluation panels, restarts within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError

from actors.worker import RolloutReport
from cluster.config import WorkersConfig
from cluster.placement import Placement
from cluster.processes import end_actor
from cluster.waiting import StopFlag, get, wait_for
from cluster.worker_actor import WorkerActor, WorkerSpec
from protocol.episode import EpisodeResult
from protocol.errors import DeadlineExceeded, WorkerDied


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one rollout brought: batches by reference, reports and worker states by value."""

    batches: list[ray.ObjectRef]
    reports: list[RolloutReport]
    states: list[dict[str, Any]]
    wall_s: float


class WorkerPool:
    """Owns the worker actors."""

    def __init__(
        self,
        spec: WorkerSpec,
        config: WorkersConfig,
        server_names: Sequence[str],
        placement: Placement | None,
        stop: StopFlag,
    ) -> None:
        self._config = config
        self._stop = stop
        self._deadline_s = spec.sample_deadline_s
        self.lost_rollouts = 0
        """Worker rollouts that ended with the worker's death; their share was collected again."""
        self.handles = [
            ray.remote(WorkerActor)
            .options(
                **(placement.worker_options(i) if placement else {"num_cpus": 0}),
                max_restarts=config.max_restarts,
            )
            .remote(spec, f"worker-{i}", list(server_names))
            for i in range(config.count)
        ]
        self._starting = [handle.ping.remote() for handle in self.handles]

    def wait_started(self, deadline_s: float) -> None:
        """Wait until every worker has built its environments; what a constructor raised is raised here."""
        try:
            wait_for(self._starting, f"{len(self.handles)} rollout worker(s) to start", deadline_s, stop=self._stop)
        except ActorDiedError as error:
            raise WorkerDied(
                f"A rollout worker could not be built: {error}", "run `croupier check-env` on the environment"
            ) from error

    def load_states(self, states: Sequence[dict[str, Any]], update: int) -> None:
        """Give every worker the state it had at the checkpoint of `update`.

        With another number of workers than then, all of them begin fresh episodes under new names instead: workers
        may come and go, and no row depends on which one made it.
        """
        if len(states) != len(self.handles):
            renewed = [handle.renew.remote(f"u{update}") for handle in self.handles]
            wait_for(renewed, "rollout workers to begin anew", self._deadline_s)
            return
        refs = [h.load_state_dict.remote(s) for h, s in zip(self.handles, states, strict=True)]
        wait_for(refs, "rollout workers to restore their state", self._deadline_s)

    def collect(
        self,
        num_steps: int,
        policy_version: int,
        temperature: float,
        deadline_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> Rollout:
        """Collect `num_steps` environment steps in all, shared evenly.

        The share of a worker that dies is collected again by its successor; the rows themselves never come here.

        Raises:
            WorkerDied: A worker is gone for good: its restart budget is spent.
            DeadlineExceeded: The rollout takes longer than `deadline_s`.
        """
        began = time.monotonic()
        shares = _shares(num_steps, len(self.handles))
        running = {
            index: self._start(index, share, policy_version, temperature) for index, share in enumerate(shares) if share
        }
        done: dict[int, tuple[ray.ObjectRef, RolloutReport, dict[str, Any]]] = {}
        while running:
            by_report = {refs[1]: index for index, refs in running.items()}
            ready, _ = ray.wait(list(by_report), timeout=0.1)
            for report_ref in ready:
                index = by_report[report_ref]
                batch, report, state = running.pop(index)
                try:
                    done[index] = (batch, get(report, "rollout report"), get(state, "worker state"))
                except ActorDiedError as error:
                    raise WorkerDied(
                        f"worker-{index} died more than {self._config.max_restarts} time(s): {error}",
                        "look at its log; raise workers.max_restarts if the cause lies outside",
                    ) from error
                except RayActorError:
                    self.lost_rollouts += 1
                    running[index] = self._start(index, shares[index], policy_version, temperature)
            if meanwhile is not None:
                meanwhile()
            self._stop.raise_if_set()
            if running and time.monotonic() - began > deadline_s:
                raise DeadlineExceeded(
                    f"Waited {deadline_s:g} s for {len(running)} of {len(shares)} worker(s) to collect "
                    f"{num_steps} environment steps.",
                    "look at `speed/env_steps_per_s`; raise workers.rollout_timeout_s if this environment is that slow",
                )
        ordered = [done[i] for i in sorted(done)]
        return Rollout(
            batches=[batch for batch, _, _ in ordered],
            reports=[report for _, report, _ in ordered],
            states=[state for _, _, state in ordered],
            wall_s=time.monotonic() - began,
        )

    def run_episodes(
        self,
        seeds: Sequence[int],
        policy_version: int,
        temperature: float,
        deadline_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> list[EpisodeResult]:
        """Play one episode per seed, shared among the workers; results in the order of `seeds`."""
        count = len(self.handles)
        refs = [
            handle.run_episodes.remote(list(seeds[i::count]), policy_version, temperature)
            for i, handle in enumerate(self.handles)
        ]
        results = wait_for(refs, f"{len(seeds)} evaluation episodes", deadline_s, stop=self._stop, meanwhile=meanwhile)
        by_seed = {r.seed: r for part in results for r in part}
        return [by_seed[seed] for seed in seeds]

    def stop(self) -> None:
        """End the worker processes."""
        for handle in self.handles:
            end_actor(handle)

    def _start(self, index: int, share: int, policy_version: int, temperature: float) -> list[ray.ObjectRef]:
        return self.handles[index].collect.options(num_returns=3).remote(share, policy_version, temperature)


def _shares(total: int, parts: int) -> list[int]:
    """Split `total` into `parts` whole numbers that differ by at most one."""
    return [total // parts + (i < total % parts) for i in range(parts)]
