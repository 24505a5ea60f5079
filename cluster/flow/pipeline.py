"""The asynchronous driver: workers collect, the learner updates and adapters are published at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.driver import Driver
from cluster.flow.capacity import Capacity
from cluster.flow.collector import Chunk, ChunkCollector
from cluster.record.metrics import rollout_metrics
from cluster.runtime.processes import ask_learner
from learner.algorithms.config import CRITIC_ALGORITHMS
from protocol.errors import DeadlineExceeded

POLL_S = 0.1
"""Longest wait between two looks around, in seconds."""


@dataclass(slots=True)
class _Publication:
    """An adapter on its way to the servers."""

    version: int
    delivered: Future[dict[str, float]]


class Pipeline(Driver):
    """A driver whose workers never wait for the learner, nor the learner for the servers.

    The learner trains on rows that are at most `learner.max_staleness` >= 1 versions old: by construction, for no
    chunk of rows begins that could not be used in time (`cluster.flow.capacity`). Requests name the newest version
    that all servers have acknowledged; those under way finish under theirs. While an update runs, chunks for the next
    ones come in; while its adapter goes to the servers, the next update runs.
    """

    _collector: ChunkCollector | None = None
    _capacity: Capacity | None = None
    _publication: _Publication | None = None
    _published: Mapping[str, float] = {}
    _publisher: ThreadPoolExecutor | None = None
    _returned_s = 0.0

    def iterate(self, show: Callable[[str], None] = lambda phase: None) -> dict[str, float]:
        """Wait for the rows of an update, learn, and send the adapter on its way; see `Driver.iterate`.

        Raises:
            StopRequested: The user asked to stop while rows were awaited; the updates that are done are kept.
            DeadlineExceeded: No row came in time.
        """
        began = self._returned_s or time.monotonic()
        asked = time.monotonic()
        chunks = self._await_chunks(show)
        update_began = time.monotonic()
        learnt = ask_learner(
            self._learner.update.remote(self.progress.update + 1, [chunk.batch for chunk in chunks]),
            "the learner's update",
            self._config.learner.update_timeout_s,
            meanwhile=lambda: self._tend(show, "learning", 0.0),
        )
        update_s = time.monotonic() - update_began
        reports = [chunk.report for chunk in chunks]
        values = rollout_metrics(reports, time.monotonic() - began)
        self._count(values, [])
        values |= {f"learner/{key}": value for key, value in learnt.items()}
        values |= self._await_publication(show)
        self._begin_publication()
        self._returned_s = time.monotonic()
        values |= {
            "idle/workers": sum(r.idle_s for r in reports) / sum(r.wall_s for r in reports),
            "time/rollout_s": update_began - asked,
            "time/update_s": update_s,
            "time/iteration_s": self._returned_s - began,
        }
        return self._complete(values)

    def settle(self, show: Callable[[str], None] = lambda phase: None) -> None:
        """Wait until the newest adapter is current on all servers."""
        self._await_publication(show)
        if self._publisher is not None:
            self._publisher.shutdown()
            self._publisher = None

    def restore(self, checkpoint: Path | None = None) -> None:
        """See `Driver.restore`; workers begin fresh episodes under names of their own, for what they had begun when
        the checkpoint was written is trained on already or lost."""
        super().restore(checkpoint)
        if self.progress.update:
            self.workers.load_states((), self.progress.update)

    def _meanwhile(self) -> None:
        """Go on collecting while a checkpoint is written."""
        if self._collector is not None:
            self._tend(lambda phase: None, "saving", 0.0)

    def _await_chunks(self, show: Callable[[str], None]) -> list[Chunk]:
        collector = self._collector or self._begin_flow()
        deadline_s, began = self._config.workers.rollout_timeout_s, time.monotonic()
        while (chunks := collector.take()) is None:
            self._tend(show, "sampling", POLL_S)
            self._stop.raise_if_set()
            if time.monotonic() - began > deadline_s:
                raise DeadlineExceeded(
                    f"Waited {deadline_s:g} s for the rows of update {self.progress.update + 1}: "
                    f"{collector.under_way}.",
                    "look at the workers' and servers' logs; raise workers.rollout_timeout_s if they are that slow",
                )
        return chunks

    def _begin_flow(self) -> ChunkCollector:
        config = self._config
        by_steps = config.learner.algorithm in CRITIC_ALGORITHMS
        total = config.rollout.steps_per_update if by_steps else config.rollout.episodes_per_update
        chunk = config.chunk_size
        left = config.rollout.updates - self.progress.update
        self._capacity = Capacity(total, config.learner.max_staleness, self.policy_version, left)
        first = self.progress.update

        def seeds(number: int) -> list[int]:
            """Reset seeds of the n-th chunk: those of lock-step, chunk by chunk."""
            update, place = divmod(number * chunk, total)
            return config.episode_seeds(first + update, self._stage)[place : place + chunk]

        share_of: Callable[[int], Any] = (lambda number: chunk) if by_steps else seeds
        self._collector = ChunkCollector(self.workers, self._capacity, chunk, config.rollout.temperature, share_of)
        return self._collector

    def _tend(self, show: Callable[[str], None], phase: str, timeout_s: float) -> None:
        if self._publication is not None and self._publication.delivered.done():
            self._acknowledge()
        if self._collector is not None:
            self._collector.tend(timeout_s)
        # A server that dies meanwhile is brought back by whoever waits for its acknowledgement, and by nobody else.
        if self._publication is None:
            self._look_around(show, phase)
        else:
            show(phase)

    def _begin_publication(self) -> None:
        """Let the learner export its adapter before it does anything else, and deliver it behind the driver's back."""
        made, package = self._export()
        if self._publisher is None:
            self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publish")
        version = self.policy_version + 1
        self._publication = _Publication(version, self._publisher.submit(self._deliver_and_tell, made, package))

    def _deliver_and_tell(self, made: Any, package: Any) -> dict[str, float]:
        began = time.monotonic()
        manifest, values = self._deliver(made, package)
        self.workers.advance_to(manifest.policy_version)  # before older versions are retired
        self._retire(manifest.policy_version)
        return values | {"time/publish_s": time.monotonic() - began}

    def _await_publication(self, show: Callable[[str], None]) -> Mapping[str, float]:
        """Numbers of the last publication, once every server has acknowledged it; none before the first."""
        while self._publication is not None:
            self._tend(show, "publishing", POLL_S)
        values, self._published = self._published, {}
        return values

    def _acknowledge(self) -> None:
        """The publication has come to its end: its version is current, and more rows may begin."""
        publication, self._publication = self._publication, None
        assert publication is not None and self._capacity is not None
        self._published = publication.delivered.result(timeout=0)
        self.policy_version = publication.version
        self._capacity.acknowledge(publication.version)
