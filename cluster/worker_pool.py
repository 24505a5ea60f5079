"""The rollout workers of a run: one rollout over all of them, evaluation panels, restarts within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError

from actors.worker import RolloutReport
from cluster.config import WorkersConfig
from cluster.placement import Placement
from cluster.processes import call_when_rebuilt, end_actor
from cluster.waiting import StopFlag, get, wait_for
from cluster.worker_actor import WorkerActor, WorkerSpec
from protocol.episode import EpisodeResult
from protocol.errors import DeadlineExceeded, WorkerDied

RESTART_DEADLINE_S = 120.0
"""How long a dead worker may take to be rebuilt, in seconds."""


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
        calls = {
            index: partial(
                self.handles[index].collect.options(num_returns=3).remote, share, policy_version, temperature
            )
            for index, share in enumerate(shares)
            if share
        }
        # Only report and state come to the driver; the batch stays where it is, a reference.
        parts = self._gather(calls, slice(1, 3), f"{num_steps} environment steps", deadline_s, meanwhile)
        return Rollout(
            batches=[refs[0] for refs, _ in parts],
            reports=[report for _, (report, _) in parts],
            states=[state for _, (_, state) in parts],
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
        """Play one episode per seed, shared among the workers; results in the order of `seeds`.

        Raises:
            WorkerDied, DeadlineExceeded: As `collect`; the share of a worker that dies is played again.
        """
        shares = [list(seeds[i :: len(self.handles)]) for i in range(len(self.handles))]
        calls = {
            index: partial(self.handles[index].run_episodes.remote, share, policy_version, temperature)
            for index, share in enumerate(shares)
            if share
        }
        parts = self._gather(calls, slice(0, 1), f"{len(seeds)} evaluation episodes", deadline_s, meanwhile)
        by_seed = {result.seed: result for _, (results,) in parts for result in results}
        return [by_seed[seed] for seed in seeds]

    def _gather(
        self,
        calls: Mapping[int, Callable[[], Any]],
        wanted: slice,
        what: str,
        deadline_s: float,
        meanwhile: Callable[[], None] | None,
    ) -> list[tuple[list[ray.ObjectRef], list[Any]]]:
        """Make one call per worker and wait; a call that is lost with its worker is made again.

        Returns:
            For every call, in the order of the workers: its references, and the values of the `wanted` ones.
        """
        end = time.monotonic() + deadline_s
        running = {index: _as_list(call()) for index, call in calls.items()}
        done: dict[int, tuple[list[ray.ObjectRef], list[Any]]] = {}
        while running:
            ready, _ = ray.wait([refs[wanted][0] for refs in running.values()], timeout=0.1, fetch_local=False)
            for index in [i for i, refs in running.items() if refs[wanted][0] in ready]:
                refs = running.pop(index)
                try:
                    done[index] = (refs, [get(ref, what) for ref in refs[wanted]])
                except RayActorError as error:
                    self._await_successor(index, error)
                    self.lost_rollouts += 1
                    running[index] = _as_list(calls[index]())
            if meanwhile is not None:
                meanwhile()
            self._stop.raise_if_set()
            if running and time.monotonic() > end:
                raise DeadlineExceeded(
                    f"Waited {deadline_s:g} s for {what}; {len(running)} of {len(calls)} worker(s) have not answered.",
                    "look at `speed/env_steps_per_s`; raise workers.rollout_timeout_s if this environment is that slow",
                )
        return [done[index] for index in sorted(done)]

    def _await_successor(self, index: int, error: RayActorError) -> None:
        """Wait until Ray has rebuilt a dead worker.

        Raises:
            WorkerDied: It will not: the restart budget is spent, or rebuilding takes too long.
        """
        try:
            if isinstance(error, ActorDiedError):
                raise error
            call_when_rebuilt(self.handles[index].ping.remote, f"worker-{index} to be rebuilt", RESTART_DEADLINE_S)
        except RayActorError as final:
            raise WorkerDied(
                f"worker-{index} died more than {self._config.max_restarts} time(s): {final}",
                "look at its log; raise workers.max_restarts if the cause lies outside",
            ) from final

    def stop(self) -> None:
        """End the worker processes."""
        for handle in self.handles:
            end_actor(handle)


def _as_list(refs: Any) -> list[ray.ObjectRef]:
    return list(refs) if isinstance(refs, (list, tuple)) else [refs]


def _shares(total: int, parts: int) -> list[int]:
    """Split `total` into `parts` whole numbers that differ by at most one."""
    return [total // parts + (i < total % parts) for i in range(parts)]
