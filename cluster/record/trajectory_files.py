"""Received trajectories to Parquet, in the schema of the wire, for pandas, DuckDB and the report.

Rows of update n are in `steps-<n>.parquet`; a frame is written once, in the `frames-<n>.parquet` of the update that
saw it first. Trajectories that the learner refused as invalid lie apart, in `refused-<n>.parquet`, each row with the
reason: whoever learns from a folder later takes what was admitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from protocol.codec import TrajectoryBatch, encode_frames
from protocol.errors import TrajectoryError
from protocol.schema import FRAME_SCHEMA, STEP_SCHEMA
from protocol.trajectory import Frame
from protocol.validation import Rejection

REASON_COLUMN = "refused_because"
"""Of a refused file, behind the columns of the schema."""

_KINDS = ("steps", "refused", "frames")
"""What names of our files begin with; others in the folder are their owner's."""


class TrajectoryFiles:
    """Appends one pair of files per update; a resumed run first removes those of its lost continuation."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._written: set[bytes] | None = None
        """Digests of all frames on disk; None until the first write says at which update the run goes on."""

    def write(self, update: int, batches: Sequence[TrajectoryBatch], rejections: Sequence[Rejection] = ()) -> None:
        """Write all rows that were received for this update, those of `rejections` to a file of their own."""
        if self._written is None:
            self._drop_from(update)
            self._written = _digests(self._folder)
        steps = pa.Table.from_batches([b.steps for b in batches], STEP_SCHEMA)
        frames = pa.Table.from_batches([b.frames for b in batches], FRAME_SCHEMA)
        fresh = []
        for row, digest in enumerate(frames.column("digest").to_pylist()):
            if digest not in self._written:
                self._written.add(digest)
                fresh.append(row)
        if rejections:
            steps = self._set_apart(update, steps, rejections)
        self._replace(f"steps-{update:06d}.parquet", steps)
        if fresh:
            self._replace(f"frames-{update:06d}.parquet", frames.take(pa.array(fresh)))

    def _set_apart(self, update: int, steps: pa.Table, rejections: Sequence[Rejection]) -> pa.Table:
        """Write the rows of refused trajectories, and return the others."""
        reasons = {refused.trajectory_id: refused.reason for refused in rejections}
        told = [reasons.get(trajectory_id) for trajectory_id in steps.column("trajectory_id").to_pylist()]
        steps = steps.append_column(REASON_COLUMN, pa.array(told, pa.string()))
        refused = pc.field(REASON_COLUMN).is_valid()
        self._replace(f"refused-{update:06d}.parquet", steps.filter(refused))
        return steps.filter(~refused).drop_columns([REASON_COLUMN])

    def _drop_from(self, update: int) -> None:
        for file in (file for kind in _KINDS for file in self._folder.glob(f"{kind}-*.parquet")):
            if int(file.stem.rpartition("-")[2]) >= update:
                file.unlink()

    def _replace(self, name: str, table: pa.Table) -> None:
        partial = self._folder / f".{name}.partial"
        pq.write_table(table, partial, compression="zstd")
        partial.replace(self._folder / name)


def _digests(folder: Path) -> set[bytes]:
    files = folder.glob("frames-*.parquet")
    return {digest for f in files for digest in pq.read_table(f, columns=["digest"]).column("digest").to_pylist()}


def read_batch(folder: Path) -> TrajectoryBatch:
    """All rows of a folder with the frames they name, as one batch.

    Raises:
        TrajectoryError: The folder holds no rows.
        SchemaError, SchemaVersionError: They were written in another schema.
    """
    steps = read_steps(folder)
    if not steps.num_rows:
        raise TrajectoryError(
            f"There are no rows in {folder}.", "name a run, or a stage of a run, that has sampled (steps-*.parquet)"
        )
    frames = [Frame(digest, data) for digest, data in read_frames(folder).items()]
    (rows,) = steps.combine_chunks().to_batches()
    return TrajectoryBatch(rows, encode_frames(frames))


def read_steps(folder: Path) -> pa.Table:
    """All rows of a run, in the order of the updates (the schema of `protocol.schema.STEP_SCHEMA`)."""
    files = sorted(folder.glob("steps-*.parquet"))
    return pa.concat_tables([pq.read_table(f) for f in files]) if files else STEP_SCHEMA.empty_table()


def read_frames(folder: Path, digests: Sequence[bytes] | None = None) -> dict[bytes, bytes]:
    """Compressed frames by digest: all, or the given ones."""
    found: dict[bytes, bytes] = {}
    for file in sorted(folder.glob("frames-*.parquet")):
        table = pq.read_table(file)
        if digests is not None:
            wanted = pa.array(digests, table.schema.field("digest").type)
            table = table.filter(pc.field("digest").isin(wanted))
        found |= dict(zip(table.column("digest").to_pylist(), table.column("data").to_pylist(), strict=True))
    return found
