"""Which process gets which resources: checked before anything starts, then reserved as placement groups."""

from __future__ import annotations

import time
from dataclasses import dataclass

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import RunConfig
from protocol.errors import DeadlineExceeded, PlacementError

_QUIET = {"enable_task_events": False}
"""Ray's control process remembers every call of an actor otherwise, for its dashboard: a megabyte per 1,000 steps."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run reserves, one bundle per process: the learners, then the servers, then the workers."""

    bundles: tuple[dict[str, float], ...]
    learners: int = 1
    """How many of them, from the front, are learners."""
    on_one_gpu: int = 0
    """How many of them, from the front, take turns on one GPU, which is reserved whole."""

    @property
    def cpus(self) -> float:
        """CPUs over all bundles."""
        return sum(b.get("CPU", 0.0) for b in self.bundles)

    @property
    def gpus(self) -> float:
        """GPUs over all bundles."""
        apart = sum(b.get("GPU", 0.0) for b in self.bundles[self.on_one_gpu :])
        return apart + bool(self.on_one_gpu)


def demand_of(config: RunConfig) -> Demand:
    """Resources of a run; one-GPU mode is `learner.gpus` and `servers.gpus` below 1 (docs/placement.md)."""
    learner = {"CPU": 1.0, "GPU": config.learner.gpus}
    server = {"CPU": 1.0, "GPU": config.servers.gpus * config.servers.tensor_parallel}
    worker = {"CPU": config.workers.cpus_per_worker}
    count = config.learner.count
    bundles = [*[learner] * count, *[server] * config.servers.count, *[worker] * config.workers.count]
    on_one_gpu = count + config.servers.count if config.servers.sleep_while_learning else 0
    return Demand(tuple({k: v for k, v in b.items() if v > 0} for b in bundles), count, on_one_gpu)


def local_gpus() -> int:
    """GPUs of this machine, found without loading torch."""
    from ray._private.accelerators import NvidiaGPUAcceleratorManager

    return NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()


def check_fits(demand: Demand, cpus: float, gpus: float, *, where: str) -> None:
    """Refuse a run that can never be placed.

    Raises:
        PlacementError: Names what is asked for, what is there, and which keys to change.
    """
    if demand.gpus > gpus:
        raise PlacementError(
            f"The run asks for {demand.gpus:g} GPU(s), {where} has {gpus:g}.",
            "lower learner.gpus, learner.count, servers.gpus, servers.count or servers.tensor_parallel "
            "(0 GPUs runs on CPU)",
        )
    if demand.cpus > cpus:
        raise PlacementError(
            f"The run asks for {demand.cpus:g} CPU(s), {where} has {cpus:g}.",
            "lower workers.count, workers.cpus_per_worker or learner.count, or add nodes to the cluster",
        )


class Placement:
    """The reserved resources: one bundle per process, spread over the nodes; several learners close together."""

    def __init__(self, config: RunConfig, deadline_s: float) -> None:
        """Reserve.

        Raises:
            PlacementError: The cluster is too small.
            DeadlineExceeded: The resources exist but did not become free in time.
        """
        demand = demand_of(config)
        resources = ray.cluster_resources()
        check_fits(demand, resources.get("CPU", 0), resources.get("GPU", 0), where="the Ray cluster")
        self._demand = demand
        self._servers = config.servers.count
        self._groups: list[PlacementGroup] = []
        self._strategies: dict[int, PlacementGroupSchedulingStrategy] = {}
        apart = demand.on_one_gpu
        if apart:
            self._reserve_gpu(range(apart))
        elif demand.learners > 1:
            # Learners exchange gradients at every step: on one node if it has room for them.
            apart = demand.learners
            self._reserve(range(apart), "PACK")
        self._reserve(range(apart, len(demand.bundles)), "SPREAD")
        end = time.monotonic() + deadline_s
        if not all(group.wait(timeout_seconds=max(0.0, end - time.monotonic())) for group in self._groups):
            self.release()
            raise DeadlineExceeded(
                f"Waited {deadline_s:g} s for {demand.cpus:g} CPU(s) and {demand.gpus:g} GPU(s) to become free.",
                "wait for other jobs on the cluster to end, or raise ray.start_timeout_s",
            )

    def learner_options(self) -> list[dict[str, object]]:
        """Options of each learner's Ray actor."""
        return [self._options(index) for index in range(self._demand.learners)]

    def server_options(self, index: int) -> dict[str, object]:
        """Options of the n-th server's Ray actor."""
        return self._options(self._demand.learners + index)

    def worker_options(self, index: int) -> dict[str, object]:
        """Options of the n-th worker's Ray actor."""
        return self._options(self._demand.learners + self._servers + index)

    def release(self) -> None:
        """Give the resources back; processes that still run in them are ended."""
        for group in self._groups:
            remove_placement_group(group)

    def _reserve(self, indices: range, strategy: str) -> None:
        # A bundle must not be empty; workers without a CPU share are scheduled without a bundle.
        filled = [index for index in indices if self._demand.bundles[index]]
        if not filled:
            return
        group = placement_group([self._demand.bundles[index] for index in filled], strategy=strategy)
        self._groups.append(group)
        for place, index in enumerate(filled):
            self._strategies[index] = PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=place
            )

    def _reserve_gpu(self, indices: range) -> None:
        """One bundle with a whole GPU for all of these: bundles of their own could land on different cards."""
        cpus = sum(self._demand.bundles[index].get("CPU", 0.0) for index in indices)
        group = placement_group([{"CPU": cpus, "GPU": 1.0}], strategy="PACK")
        self._groups.append(group)
        for index in indices:
            self._strategies[index] = PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=0
            )

    def _options(self, index: int) -> dict[str, object]:
        bundle = self._demand.bundles[index]
        if not bundle:
            return {"num_cpus": 0, "scheduling_strategy": "SPREAD", **_QUIET}
        return {
            **_QUIET,
            "num_cpus": bundle.get("CPU", 0.0),
            "num_gpus": bundle.get("GPU", 0.0),
            "scheduling_strategy": self._strategies[index],
        }
