"""The two ends of the `transport` benchmark as Ray actors: one holds rows and sends them, one receives as a learner.

Both read the clock of the machine they share, which is the same for all of its processes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from cluster.bench.transport_rows import FRAMES, OURS, Case, build_world
from cluster.runtime.waiting import wait_for
from learner.rows import gather_rows
from protocol.codec import TrajectoryBatch, decode_frames, encode

_DEADLINE_S = 120.0
_COPIES = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """What receiving took."""

    get_s: float
    """From the reference to the object."""
    decode_s: float
    """From the object to what the learner works on; 0 for plain objects."""
    copy_s: float
    """Copying every frame out of it; 0 where that was not asked for."""
    rows: int
    ended_s: float
    """On the machine's clock."""


class Sender:
    """Holds the rows of a case in every form; stands for a worker."""

    def prepare(self, case: Case) -> tuple[int, int]:
        """Make the rows; bytes of their Arrow batch, and of its frames."""
        self._world = build_world(case)
        self._batch = self._world.batch()
        self._packed: dict[str, Any] = {}
        return self._batch.nbytes, self._batch.frames.nbytes

    def encode_s(self) -> float:
        """Seconds of packing the rows as a batch."""
        began_s = time.perf_counter()
        encode(self._world.steps, self._world.frames)
        return time.perf_counter() - began_s

    def copy_s(self, nbytes: int) -> float:
        """Seconds of copying so many bytes into memory that has been written before; the best of a few times."""
        source, target = np.ones(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
        took_s = []
        for _ in range(_COPIES):
            began_s = time.perf_counter()
            np.copyto(target, source)
            took_s.append(time.perf_counter() - began_s)
        return min(took_s)

    def put(self, form: str) -> tuple[float, list[ray.ObjectRef]]:
        """Put the rows into the object store; seconds, and the reference."""
        rows = self._form(form)
        began_s = time.perf_counter()
        reference = ray.put(rows)
        return time.perf_counter() - began_s, [reference]

    def hand_over(self, form: str) -> tuple[float, Any]:
        """The machine's clock, and the rows as a returned value: that is how workers send."""
        rows = self._form(form)
        return time.monotonic(), rows

    def _form(self, form: str) -> Any:
        if form == OURS:
            return self._batch
        if form == FRAMES:
            return self._batch.frames
        if form not in self._packed:
            self._packed = {form: self._world.objects(form)}
        return self._packed[form]


class Receiver:
    """Takes rows by reference; stands for the learner."""

    def take(self, references: Sequence[ray.ObjectRef], copy_frames: bool = False) -> Arrival:
        """Fetch one object, as `cluster.learners.actor` fetches batches, and make rows or frames of it."""
        began_s = time.perf_counter()
        (received,) = wait_for(references, "rows of the benchmark", _DEADLINE_S)
        got_s = time.perf_counter()
        if isinstance(received, TrajectoryBatch):
            received = gather_rows([received])
        elif isinstance(received, pa.RecordBatch):
            received = decode_frames(received)
        decoded_s = time.perf_counter()
        if copy_frames and isinstance(received, Mapping):
            dict(received)
        ended_s = time.perf_counter()
        times = (got_s - began_s, decoded_s - got_s, ended_s - decoded_s)
        return Arrival(*times, rows=len(received), ended_s=time.monotonic())
