"""A private Ray for benchmarks that send things between processes: started once, however many of them run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cluster.config import RayConfig
from cluster.record.progress import RunProgress
from cluster.runtime.ray_session import ray_session

_LOGICAL_CPUS = 3
"""What the smallest real run asks for: learner, server, workers."""


@contextmanager
def local_ray(progress: RunProgress) -> Iterator[None]:
    """Be connected to a Ray of this machine alone inside the block; to the one that is there, where there is one.

    A cluster is not joined: numbers of several machines, and clocks of several machines, do not compare.

    Raises:
        PlacementError: Ray does not start.
    """
    with ExitStack() as stack:
        with progress.phase("start Ray"):
            stack.enter_context(ray_session(RayConfig(address="local"), _LOGICAL_CPUS))
        yield
