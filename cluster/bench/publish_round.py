"""One publish from the optimizer's last step to the last server's word, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import ray

from actors.config import ServerConfig
from cluster.bench.publish_actors import BenchServer, Exported, Word
from cluster.bench.publish_stream import Span
from cluster.runtime.processes import end_actor
from cluster.runtime.waiting import get, wait_for

DEADLINE_S = 300.0
_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of one publish; they are those of the server that spoke last, and add up to the whole."""

    export: float
    """Tensors to bytes, digest, and the learner's scores of the canaries."""
    object_store: float
    """From the package in the learner's hands to the package in the server's."""
    check: float
    """The server's own look at configuration and names."""
    write: float
    """Digest, and files in memory (tmpfs), by the first server of the machine; the others wait for it."""
    load: float
    canaries: float
    rest: float
    """Messages, and waiting for a turn."""

    @property
    def total(self) -> float:
        """From the optimizer's last step to the last server's word."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Published:
    """A publish that every server acknowledged."""

    parts: Parts
    weights_bytes: int
    exporting: Span
    serving: Span
    """Of the server that spoke last."""


class Crew:
    """A learner with the servers that it publishes to.

    Args:
        learner, servers: started Ray actors.
        versions: where the numbers of policy versions come from; they only grow.
    """

    def __init__(self, learner: Any, servers: Sequence[Any], versions: Iterator[int]) -> None:
        self._learner, self._servers, self._versions = learner, servers, versions
        self._live: list[int] = []

    def publish(self) -> Published:
        """Step, then publish as `cluster.driver` does: the manifest first, then all servers at once."""
        version = next(self._versions)
        get(self._learner.step.remote(version), "a step", DEADLINE_S)
        began_s = time.monotonic()
        told, package = self._learner.export.options(num_returns=2).remote(version)
        exported: Exported = get(told, "the learner to export", DEADLINE_S)
        words = self._deliver(version, package)
        return account(Span(began_s, time.monotonic()), exported, words)

    def retire_older(self) -> None:
        """Take all versions but the newest out of service."""
        *old, newest = self._live
        refs = [server.retire.remote(version) for version in old for server in self._servers]
        wait_for(refs, f"the end of versions {old}", DEADLINE_S)
        self._live = [newest]

    def vacate(self) -> None:
        """Replace what a stub learner has published by next to nothing."""
        version = next(self._versions)
        self._deliver(version, self._learner.tiny.remote(version))
        self.retire_older()

    def _deliver(self, version: int, package: ray.ObjectRef) -> list[Word]:
        words = wait_for([s.publish.remote(package) for s in self._servers], f"version {version}", DEADLINE_S)
        self._live.append(version)
        return words


def account(whole: Span, exported: Exported, words: Sequence[Word]) -> Published:
    """Split a publish into its parts."""
    last = max(words, key=lambda word: word.span.ended_s)
    times = last.acknowledgement.times
    known = (
        exported.span.length_s,
        last.span.began_s - exported.span.ended_s,
        times.check_s,
        times.write_s,
        times.load_s,
        times.canary_s,
    )
    return Published(
        Parts(*known, rest=whole.length_s - sum(known)), exported.manifest.weights_bytes, exported.span, last.span
    )


@contextmanager
def ray_actors(actors: Sequence[Any]) -> Iterator[None]:
    """End the actors with the block: their engines first, where they have one."""
    try:
        yield
    finally:
        stops = [actor.stop.remote() for actor in actors if hasattr(actor, "stop")]
        ray.wait(stops or [ray.put(None)], num_returns=max(1, len(stops)), timeout=_STOP_S)
        for actor in actors:
            end_actor(actor)


def spawn_learner(kind: type) -> Any:
    """An actor of one of the learners."""
    return ray.remote(kind).options(num_cpus=0).remote()


def spawn_servers(model: str, config: ServerConfig, engine: str, count: int) -> list[Any]:
    """Actors of servers with one kind of engine."""
    remote = ray.remote(BenchServer).options(num_cpus=0, max_concurrency=64)
    return [remote.remote(model, config, f"bench-{number}", engine) for number in range(count)]


def wait_started(starting: Sequence[ray.ObjectRef]) -> list[Any]:
    """What the actors' `start` returned."""
    return wait_for(starting, "learner and servers of the benchmark to start", DEADLINE_S)
