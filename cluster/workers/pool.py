"""The rollout workers of a run: one rollout over all of them, evaluation panels, restarts, a memory cap."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError

from actors.report import RolloutReport
from cluster.config import WorkersConfig
from cluster.runtime.placement import Placement
from cluster.runtime.processes import call_when_rebuilt, end_actor
from cluster.runtime.waiting import StopFlag, get, wait_for
from cluster.workers.actor import WorkerActor, WorkerSpec
from cluster.workers.memory import MemoryCap
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
        self._spec = spec
        self._config = config
        self._server_names = list(server_names)
        self._placement = placement
        self._stop = stop
        self._deadline_s = spec.sample_deadline_s
        self.lost_rollouts = 0
        """Worker rollouts that ended with the worker's death; their share was collected again."""
        self.recycled = 0
        """Workers that were started anew because they had outgrown the memory cap."""
        self._cap = MemoryCap(config.max_memory_mb)
        self._deaths: Counter[int] = Counter()
        self._successors: dict[int, ray.ObjectRef] = {}
        self.handles = [self._spawn(index) for index in range(config.count)]
        self._starting = [handle.memory_bytes.remote() for handle in self.handles]

    def _spawn(self, index: int) -> Any:
        """Start a worker with what is left of its restart budget."""
        placed = self._placement.worker_options(index) if self._placement else {"num_cpus": 0}
        left = max(0, self._config.max_restarts - self._deaths[index])
        worker = ray.remote(WorkerActor).options(**placed, max_restarts=left)
        return worker.remote(self._spec, f"{self._spec.name}-{index}", self._server_names)

    def wait_started(self, deadline_s: float) -> None:
        """Wait until every worker has built its environments; what a constructor raised is raised here.

        Raises:
            ConfigError: A worker is above the memory cap from the start.
        """
        what = f"{len(self.handles)} rollout worker(s) to start"
        try:
            used = wait_for(self._starting, what, deadline_s, stop=self._stop)
        except ActorDiedError as error:
            raise WorkerDied(
                f"A rollout worker could not be built: {error}", "run `croupier check-env` on the environment"
            ) from error
        for index, used_bytes in enumerate(used):
            self._cap.check_fresh(index, used_bytes)

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
        A worker that ends above the memory cap is started anew while the caller goes on; its successor takes over its
        state, so that no row tells the difference.

        Raises:
            WorkerDied: A worker is gone for good: its restart budget is spent.
            DeadlineExceeded: The rollout takes longer than `deadline_s`.
            ConfigError: A successor is above the memory cap at once.
        """
        shares = dict(enumerate(_shares(num_steps, len(self.handles))))
        wanted = policy_version, temperature
        return self._rollout("collect", shares, wanted, f"{num_steps} environment steps", deadline_s, meanwhile)

    def collect_episodes(
        self,
        seeds: Sequence[int],
        policy_version: int,
        temperature: float,
        deadline_s: float,
        meanwhile: Callable[[], None] | None = None,
    ) -> Rollout:
        """Play one whole episode per reset seed, shared among the workers.

        Raises:
            WorkerDied, DeadlineExceeded, ConfigError: As `collect`.
        """
        shares = _dealt(seeds, len(self.handles))
        wanted = policy_version, temperature
        return self._rollout("collect_episodes", shares, wanted, f"{len(seeds)} episodes", deadline_s, meanwhile)

    def _rollout(
        self,
        method: str,
        shares: Mapping[int, Any],
        wanted: tuple[int, float],
        what: str,
        deadline_s: float,
        meanwhile: Callable[[], None] | None,
    ) -> Rollout:
        """Give every worker its share of a rollout, if it has any, and wait."""
        began = time.monotonic()
        self._await_recycled(deadline_s, meanwhile)
        calls = {
            index: partial(getattr(self.handles[index], method).options(num_returns=3).remote, share, *wanted)
            for index, share in shares.items()
            if share
        }
        # Only report and state come to the driver; the batch stays where it is, a reference.
        parts = self._gather(calls, slice(1, 3), what, deadline_s, meanwhile)
        wall_s = time.monotonic() - began
        self._recycle({index: (values[0], values[1]) for index, (_, values) in zip(sorted(calls), parts, strict=True)})
        return Rollout(
            batches=[refs[0] for refs, _ in parts],
            reports=[report for _, (report, _) in parts],
            states=[state for _, (_, state) in parts],
            wall_s=wall_s,
        )

    def order(
        self, index: int, share: int | Sequence[int], policy_version: int, temperature: float
    ) -> tuple[ray.ObjectRef, ray.ObjectRef]:
        """Order a portion of a stream from one worker, steps or episodes; references to its batch and its report."""
        handle = self.handles[index]
        method = handle.stream if isinstance(share, int) else handle.stream_episodes
        batch, report = method.options(num_returns=2).remote(share, policy_version, temperature)
        return batch, report

    def advance_to(self, policy_version: int) -> None:
        """Have every worker name this version in its next requests; one that is being rebuilt is told by its next
        order."""
        for index, told in enumerate([handle.advance_to.remote(policy_version) for handle in self.handles]):
            with suppress(RayActorError):
                wait_for([told], f"worker-{index} to go on to policy {policy_version}", self._deadline_s)

    def replace(self, index: int, error: RayActorError) -> ray.ObjectRef:
        """Count the death of a worker; a call that is answered when Ray has rebuilt it.

        Raises:
            WorkerDied: It will not be: the restart budget is spent.
        """
        self._count_death(index, error)
        return self.handles[index].ping.remote()

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
            WorkerDied, DeadlineExceeded, ConfigError: As `collect`; the share of a worker that dies is played again.
        """
        self._await_recycled(deadline_s, meanwhile)
        calls = {
            index: partial(self.handles[index].run_episodes.remote, share, policy_version, temperature)
            for index, share in _dealt(seeds, len(self.handles)).items()
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
        self._count_death(index, error)
        try:
            call_when_rebuilt(self.handles[index].ping.remote, f"worker-{index} to be rebuilt", RESTART_DEADLINE_S)
        except RayActorError as final:
            raise self._gone(index, final) from final

    def _count_death(self, index: int, error: RayActorError) -> None:
        self._deaths[index] += 1
        if isinstance(error, ActorDiedError):
            raise self._gone(index, error) from error

    def _gone(self, index: int, error: RayActorError) -> WorkerDied:
        return WorkerDied(
            f"worker-{index} died more than {self._config.max_restarts} time(s): {error}",
            "look at its log; raise workers.max_restarts if the cause lies outside",
        )

    def outgrown(self, index: int, report: RolloutReport) -> bool:
        """Whether a worker has outgrown the memory cap; then order nothing more from it, and `restart` it."""
        return bool(self._cap.outgrown({index: report.rss_bytes}))

    def restart(self, index: int) -> ray.ObjectRef:
        """Start an idle worker anew below the memory cap; a call that is answered when it stands where it stood."""
        state = get(self.handles[index].state_dict.remote(), f"the state of worker-{index}", self._deadline_s)
        return self._restart_from(index, state)

    def _restart_from(self, index: int, state: dict[str, Any]) -> ray.ObjectRef:
        end_actor(self.handles[index])
        self.handles[index] = self._spawn(index)
        self.recycled += 1
        return self.handles[index].take_over.remote(state)

    def check_fresh(self, index: int, used_bytes: int) -> None:
        """Refuse a worker that is above the memory cap from the start, as ConfigError."""
        self._cap.check_fresh(index, used_bytes)

    def _recycle(self, results: Mapping[int, tuple[RolloutReport, dict[str, Any]]]) -> None:
        """Replace the workers whose report is above the memory cap; nobody waits for their successors here."""
        for index in sorted(self._cap.outgrown({i: report.rss_bytes for i, (report, _) in results.items()})):
            _, state = results[index]
            self._successors[index] = self._restart_from(index, state)

    def _await_recycled(self, deadline_s: float, meanwhile: Callable[[], None] | None) -> None:
        """Wait until the workers that replace recycled ones stand where those stood."""
        successors, self._successors = self._successors, {}
        for index, taken_over in successors.items():
            what = f"worker-{index} to start anew below workers.max_memory_mb"
            try:
                (used_bytes,) = wait_for([taken_over], what, deadline_s, stop=self._stop, meanwhile=meanwhile)
            except RayActorError as error:
                self._await_successor(index, error)
            else:
                self._cap.check_fresh(index, used_bytes)

    def stop(self) -> None:
        """End the worker processes."""
        for handle in self.handles:
            end_actor(handle)


def _as_list(refs: Any) -> list[ray.ObjectRef]:
    return list(refs) if isinstance(refs, (list, tuple)) else [refs]


def _dealt(seeds: Sequence[int], hands: int) -> dict[int, list[int]]:
    """The seeds of each worker, dealt one by one."""
    return {index: list(seeds[index::hands]) for index in range(hands)}


def _shares(total: int, parts: int) -> list[int]:
    """Split `total` into `parts` whole numbers that differ by at most one."""
    return [total // parts + (i < total % parts) for i in range(parts)]
