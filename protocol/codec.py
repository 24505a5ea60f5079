"""Steps and frames to Arrow and back.

The writer's half of the contract: `encode_steps` and `encode_frames` build batches that obey the schema, and
refuse rows that could not be decoded. `protocol.validation` is the reader's half. Lists of numbers go through
numpy arrays and offsets, never through Python lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from protocol.errors import TrajectoryError
from protocol.frame_table import FrameTable
from protocol.schema import DIGEST_TYPE, FRAME_SCHEMA, STEP_SCHEMA, check_batch, check_schema
from protocol.trajectory import DIGEST_BYTES, EndReason, Frame, ParseStatus, Step

_TOKEN_COLUMNS = {
    "prompt_token_ids": np.int32,
    "response_token_ids": np.int32,
    "behavior_log_probs": np.float32,
    "token_roles": np.int8,
}
_ENUM_COLUMNS = {"parse_status": ParseStatus, "end_reason": EndReason}
_SCALAR_COLUMNS = [f.name for f in STEP_SCHEMA if not pa.types.is_list(f.type) and f.name not in _ENUM_COLUMNS]


@dataclass(frozen=True, slots=True, eq=False)
class TrajectoryBatch:
    """The unit of transport: complete trajectories, and every frame they name, once."""

    steps: pa.RecordBatch
    frames: pa.RecordBatch

    def __post_init__(self) -> None:
        """Refuse batches of another schema (`SchemaError`, `SchemaVersionError`)."""
        check_batch(self.steps, STEP_SCHEMA)
        check_batch(self.frames, FRAME_SCHEMA)

    @property
    def nbytes(self) -> int:
        """Size of both record batches, in bytes."""
        return self.steps.nbytes + self.frames.nbytes


def encode(steps: Sequence[Step], frames: Iterable[Frame]) -> TrajectoryBatch:
    """Build a batch from complete trajectories and the frames that they name.

    Raises:
        TrajectoryError: See `encode_steps`; also when a row names a frame that is not given.
    """
    by_digest = {frame.digest: frame for frame in frames}
    named = {d for s in steps for d in (*s.frame_digests, *s.bootstrap_frame_digests)}
    missing = named - by_digest.keys()
    if missing:
        raise TrajectoryError(
            f"{len(missing)} frame(s) named by steps were not handed over, first {min(missing).hex()[:16]}.",
            "hand over every frame of a trajectory together with its steps",
        )
    return TrajectoryBatch(encode_steps(steps), encode_frames(by_digest[d] for d in sorted(named)))


def encode_steps(steps: Sequence[Step]) -> pa.RecordBatch:
    """Turn steps into one record batch of `STEP_SCHEMA`, in the given order.

    Raises:
        TrajectoryError: The token columns of a row differ in length, a prompt or a response is empty, or a
            bootstrap is missing where the row's end reason needs one (or there where it does not). The
            message names the row.
    """
    for step in steps:
        _check_step(step)
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(s, name) for s in steps], STEP_SCHEMA.field(name).type) for name in _SCALAR_COLUMNS
    }
    for name in _ENUM_COLUMNS:
        columns[name] = pa.array([getattr(s, name).value for s in steps], pa.string())
    for name, dtype in _TOKEN_COLUMNS.items():
        columns[name] = _number_lists([getattr(s, name) for s in steps], np.dtype(dtype))
    columns["frame_digests"] = _digest_lists([s.frame_digests for s in steps])
    columns["bootstrap_prompt_token_ids"] = _number_lists(
        [s.bootstrap_prompt_token_ids for s in steps], np.dtype(np.int32)
    )
    columns["bootstrap_frame_digests"] = _digest_lists(
        [s.bootstrap_frame_digests if s.end_reason.needs_bootstrap else None for s in steps]
    )
    return pa.RecordBatch.from_arrays([columns[n] for n in STEP_SCHEMA.names], schema=STEP_SCHEMA)


def encode_frames(frames: Iterable[Frame]) -> pa.RecordBatch:
    """Turn frames into one record batch of `FRAME_SCHEMA`."""
    rows = list(frames)
    digests = pa.array([f.digest for f in rows], DIGEST_TYPE)
    data = pa.array([f.data for f in rows], pa.large_binary())
    return pa.RecordBatch.from_arrays([digests, data], schema=FRAME_SCHEMA)


def decode_steps(batch: pa.RecordBatch) -> list[Step]:
    """Turn a record batch back into steps (for viewers and tests; the learner reads the columns directly).

    Raises:
        SchemaError, SchemaVersionError: The batch has another schema.
    """
    check_schema(batch.schema, STEP_SCHEMA)
    tokens = {name: list_rows(batch.column(name)) for name in (*_TOKEN_COLUMNS, "bootstrap_prompt_token_ids")}
    rest: list[dict[str, Any]] = batch.select([n for n in STEP_SCHEMA.names if n not in tokens]).to_pylist()
    for i, row in enumerate(rest):
        row |= {name: kind(row[name]) for name, kind in _ENUM_COLUMNS.items()}
        row |= {name: tuple(row[name] or ()) for name in ("frame_digests", "bootstrap_frame_digests")}
        row |= {name: rows[i] for name, rows in tokens.items()}
    return [Step(**row) for row in rest]


def decode_frames(*batches: pa.RecordBatch) -> FrameTable:
    """Compressed bytes by digest, without a copy.

    Raises:
        SchemaError, SchemaVersionError: A batch has another schema.
    """
    return FrameTable(batches)


def list_rows(column: pa.ListArray) -> list[np.ndarray | None]:
    """Zero-copy numpy view of each row of a list column; None where the row is null."""
    values = column.values.to_numpy(zero_copy_only=True)
    # As Python ints: slicing by numpy's own takes twice as long.
    edges = pairwise(column.offsets.to_numpy().tolist())
    if not column.null_count:
        return [values[start:stop] for start, stop in edges]
    valid = column.is_valid().to_pylist()
    return [values[start:stop] if there else None for (start, stop), there in zip(edges, valid, strict=True)]


def _check_step(step: Step) -> None:
    where = f"Step {step.step} of trajectory {step.trajectory_id!r}"
    lengths = [len(step.response_token_ids), len(step.behavior_log_probs), len(step.token_roles)]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise TrajectoryError(
            f"{where}: response_token_ids, behavior_log_probs and token_roles have lengths {lengths}; "
            "they must be equal and at least 1."
        )
    digests = (step.adapter_digest, *step.frame_digests, *step.bootstrap_frame_digests)
    if any(len(digest) != DIGEST_BYTES for digest in digests):
        raise TrajectoryError(
            f"{where}: a digest is not {DIGEST_BYTES} bytes long.", "use protocol.trajectory.digest_of"
        )
    bootstrap = step.bootstrap_prompt_token_ids
    if len(step.prompt_token_ids) == 0 or (bootstrap is not None and len(bootstrap) == 0):
        raise TrajectoryError(f"{where} has an empty prompt or bootstrap prompt.")
    if (bootstrap is not None) != step.end_reason.needs_bootstrap:
        raise TrajectoryError(
            f"{where} ends with {step.end_reason.value!r} and "
            f"{'lacks' if step.end_reason.needs_bootstrap else 'carries'} a bootstrap prompt.",
            "truncated, cut and failed episodes carry their next state; others do not",
        )
    if bootstrap is None and step.bootstrap_frame_digests:
        raise TrajectoryError(f"{where} carries bootstrap frames without a bootstrap prompt.")


def _number_lists(rows: Sequence[np.ndarray | None], dtype: np.dtype) -> pa.ListArray:
    lengths = np.array([0 if r is None else len(r) for r in rows], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    parts = [np.asarray(r, dtype=dtype) for r in rows if r is not None]
    values = pa.array(np.concatenate(parts) if parts else np.empty(0, dtype))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=_null_mask(rows))


def _digest_lists(rows: Sequence[tuple[bytes, ...] | None]) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum([len(r or ()) for r in rows])]).astype(np.int32)
    values = pa.array([d for r in rows for d in r or ()], DIGEST_TYPE)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=_null_mask(rows))


def _null_mask(rows: Sequence[object | None]) -> pa.BooleanArray | None:
    nulls = [r is None for r in rows]
    return pa.array(nulls) if any(nulls) else None
