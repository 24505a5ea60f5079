"""The capacity rule: how many rows may be under way, and which chunks of them make the next batch.

Pure bookkeeping of an asynchronous run, without processes or clocks. A chunk is what one call to a rollout worker
collects. With S = `max_staleness`, B = `batch_rows` and v = the version that every server has acknowledged:

- a chunk may begin while begun rows <= (S + v + 1) * B, its own included;
- the batch of update u holds every chunk that began at version u - S or before, and beyond them whatever came first.

Then no row is trained on more than S versions after it was sampled, and nothing has to be thrown away for its age: of
the rows that began at version u - S or before there are at most (u + 1) * B, of which u * B have been trained on, so
those that must go into update u fit into its batch. With S = 0 it is lock-step.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Chunk:
    rows: int
    version: int
    """Acknowledged when it began; its rows are of this version or later ones."""
    arrival: int | None = None
    """Its place in the order of arrival; None while it is being collected."""


class Capacity:
    """Keeps the staleness of an asynchronous run within bounds.

    Args:
        batch_rows: rows of one update, B; chunks are of a size that divides it.
        max_staleness: S >= 0.
        version: acknowledged and about to be updated: u = v at the start.
        updates: how many there will be; rows that none of them would use do not begin. None: no end.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(self, batch_rows: int, max_staleness: int, version: int = 0, updates: int | None = None) -> None:
        if batch_rows < 1 or max_staleness < 0:
            raise ValueError(f"batch_rows {batch_rows} must be at least 1, max_staleness {max_staleness} at least 0")
        self._batch_rows = batch_rows
        self._max_staleness = max_staleness
        self._updates = updates
        self._first_version = self.version = self.update = version
        self._begun_rows = 0
        self._arrivals = 0
        self._chunks: dict[Hashable, _Chunk] = {}

    @property
    def running_rows(self) -> int:
        """Rows that are being collected."""
        return sum(chunk.rows for chunk in self._chunks.values() if chunk.arrival is None)

    @property
    def waiting_rows(self) -> int:
        """Rows that have arrived and wait for an update."""
        return sum(chunk.rows for chunk in self._chunks.values() if chunk.arrival is not None)

    @property
    def room_rows(self) -> int:
        """Rows that may begin now."""
        versions = self._max_staleness + self.version - self._first_version + 1
        if self._updates is not None:
            versions = min(versions, self._updates)
        return versions * self._batch_rows - self._begun_rows

    def begin(self, name: Hashable, rows: int) -> None:
        """A worker begins a chunk.

        Raises:
            ValueError: There is no room for it, it does not divide the batch, or one of that name is under way.
        """
        if rows < 1 or self._batch_rows % rows:
            raise ValueError(f"a chunk of {rows} rows does not divide a batch of {self._batch_rows}")
        if rows > self.room_rows:
            raise ValueError(
                f"a chunk of {rows} rows has no room: {self.room_rows} may begin at version {self.version}"
            )
        if name in self._chunks:
            raise ValueError(f"chunk {name!r} is under way already")
        self._begun_rows += rows
        self._chunks[name] = _Chunk(rows, self.version)

    def arrive(self, name: Hashable) -> None:
        """A chunk is complete and waits."""
        self._chunks[name].arrival = self._arrivals
        self._arrivals += 1

    def lose(self, name: Hashable) -> None:
        """A chunk was lost with its worker: its room is free again."""
        self._begun_rows -= self._chunks.pop(name).rows

    def take(self) -> list[Hashable] | None:
        """The chunks of the next update in order of arrival, or None while they are not all there."""
        due = [n for n, chunk in self._chunks.items() if chunk.version <= self.update - self._max_staleness]
        if any(self._chunks[name].arrival is None for name in due):
            return None
        arrived = sorted((chunk.arrival, n) for n, chunk in self._chunks.items() if chunk.arrival is not None)
        others = [name for _, name in arrived if name not in due]
        rows, batch = sum(self._chunks[name].rows for name in due), list(due)
        while rows < self._batch_rows and others:
            batch.append(others.pop(0))
            rows += self._chunks[batch[-1]].rows
        if rows < self._batch_rows:
            return None
        batch.sort(key=lambda name: self._chunks[name].arrival or 0)
        for name in batch:
            del self._chunks[name]
        self.update += 1
        return batch

    def acknowledge(self, version: int) -> None:
        """Every server holds this version from now on.

        Raises:
            ValueError: It is not the next one, or its update has not begun.
        """
        if version != self.version + 1 or version > self.update:
            raise ValueError(f"version {version} cannot follow {self.version} while update {self.update} is next")
        self.version = version
