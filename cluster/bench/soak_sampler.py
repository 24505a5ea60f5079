"""Samples the memory of a run while it goes on, from a thread of the driver's process: nobody else takes notice."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import node_manager_pb2, node_manager_pb2_grpc

from cluster.bench.soak_processes import SERVER, Roles, adapter_bytes, read_table, usage_of
from cluster.runtime.waiting import POLL_S, StopFlag
from cluster.workers.memory import MB

MEMORY, COUNTS = "memory", "open files and objects"
"""Parts of the result; their units are MB and number."""
EVERYTHING = "all processes (PSS)"
ADAPTERS = "adapters on tmpfs"
STORE = "object store in use"
_ASK_S = 30.0

Values = Mapping[tuple[str, str], float]
"""Samples of one moment by part and case."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read at one moment."""

    at_s: float
    values: Values


class ObjectStore:
    """What the object store of this node holds, asked of its raylet; Ray must be connected.

    Over one channel that stays open: Ray's own functions make one for every question. The state API would need the
    dashboard, which a private Ray does not have.
    """

    def __init__(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        (node,) = (node for node in ray.nodes() if node["NodeID"] == here)
        channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
        self._raylet = node_manager_pb2_grpc.NodeManagerServiceStub(channel)
        self._question = node_manager_pb2.GetNodeStatsRequest(include_memory_info=False)  # pyright: ignore (generated)

    def read(self) -> tuple[int, int]:
        """Bytes in use, spilled to files or not, and how many objects they are."""
        stats = self._raylet.GetNodeStats(self._question, timeout=_ASK_S).store_stats
        return stats.object_store_bytes_used + stats.object_store_bytes_fallback, stats.num_local_objects


class Reader:
    """Reads all quantities of a run whose driver is this process."""

    def __init__(self) -> None:
        self._root = psutil.Process(os.getpid())
        self._roles = Roles(self._root.pid)
        self._store = ObjectStore()

    def read(self) -> Values:
        """Memory in MB and numbers of open files by role, and what the object store and tmpfs hold."""
        table, processes = read_table(self._root)
        roles = self._roles.attribute(table)
        found: Counter[tuple[str, str]] = Counter()
        shared_out = 0
        for pid, role in roles.items():
            if usage := usage_of(processes[pid]):
                found[MEMORY, role] += usage.own_bytes
                found[COUNTS, f"files, {role}"] += usage.open_files
                shared_out += usage.proportional_bytes
        servers = [process for pid, process in processes.items() if roles[pid].startswith(SERVER)]
        found[MEMORY, ADAPTERS] = adapter_bytes(servers)
        found[MEMORY, STORE], found[COUNTS, f"objects, {STORE}"] = self._store.read()
        found[MEMORY, EVERYTHING] = shared_out
        return {(part, case): value / MB if part == MEMORY else value for (part, case), value in found.items()}


class Clock(Protocol):
    """Tells how far a run is; see `SoakProgress`."""

    @property
    def running_s(self) -> float | None:
        """Seconds that count already; None while nothing does."""
        ...

    def is_over(self, at_s: float) -> bool:
        """Whether the run may end at this time."""
        ...


def sample_until_over(read: Callable[[], Values], clock: Clock, every_s: float, stop: StopFlag) -> list[Sample]:
    """Sample until the time is over, then ask the run to stop; or until somebody else does.

    Args:
        read: Reads all quantities.
        clock: Of the run.
        every_s: Time between two samples, in seconds.
        stop: Of the run. Set as well when reading fails: a run that nobody watches is of no use.
    """
    samples: list[Sample] = []
    try:
        while not stop.is_set:
            at_s = clock.running_s
            if at_s is None:
                time.sleep(POLL_S)
                continue
            values = read()
            if stop.is_set:  # processes were ending while they were read
                break
            samples.append(Sample(at_s, values))
            if clock.is_over(at_s):
                break
            _sleep(at_s + every_s, clock, stop)
    finally:
        stop.set()
    return samples


def _sleep(until_s: float, clock: Clock, stop: StopFlag) -> None:
    while not stop.is_set and (left_s := until_s - (clock.running_s or 0.0)) > 0:
        time.sleep(min(left_s, POLL_S))
