"""Arrow schemas of the wire and of the Parquet files: one table of steps, one of frames.

The version travels in the schema's metadata; a reader that meets another version refuses the batch.
"""

from __future__ import annotations

import pyarrow as pa

from protocol.errors import SchemaError, SchemaVersionError

SCHEMA_VERSION = 2
VERSION_KEY = b"croupier_schema_version"

# SHA-256, 32 bytes. Of variable length, because pandas and Hugging Face datasets read no lists of fixed-size binaries.
DIGEST_TYPE = pa.binary()
_METADATA = {VERSION_KEY: str(SCHEMA_VERSION).encode()}
_CURE = "build batches with protocol.codec only"


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


STEP_SCHEMA = pa.schema(
    [
        _required("trajectory_id", pa.string()),
        _required("run_id", pa.string()),
        _required("worker_id", pa.string()),
        _required("env_id", pa.string()),
        _required("task", pa.string()),
        _required("prompt_switches", pa.string()),  # JSON object
        _required("reset_seed", pa.int64()),
        _required("episode_id", pa.string()),
        _required("step", pa.int32()),
        _required("policy_version", pa.int32()),
        _required("adapter_digest", DIGEST_TYPE),
        _required("prompt_token_ids", pa.list_(pa.int32())),
        _required("frame_digests", pa.list_(DIGEST_TYPE)),
        _required("response_token_ids", pa.list_(pa.int32())),
        _required("behavior_log_probs", pa.list_(pa.float32())),  # natural log, one per response token
        _required("token_roles", pa.list_(pa.int8())),  # protocol.trajectory.TokenRole
        _required("response_text", pa.string()),
        _required("action", pa.string()),
        _required("parse_status", pa.string()),
        _required("legal", pa.bool_()),
        _required("reward", pa.float32()),
        _required("terminated", pa.bool_()),
        _required("truncated", pa.bool_()),
        _required("end_reason", pa.string()),
        _required("temperature", pa.float32()),
        _required("info", pa.string()),  # JSON object
        _required("sample_s", pa.float32()),  # seconds from request to response
        _required("env_s", pa.float32()),  # seconds in env.step and rendering
        # Both null unless the row ends an unfinished episode.
        pa.field("bootstrap_prompt_token_ids", pa.list_(pa.int32())),
        pa.field("bootstrap_frame_digests", pa.list_(DIGEST_TYPE)),
    ],
    metadata=_METADATA,
)
"""One row per environment step; see `protocol.trajectory.Step` for the meaning of each column."""

FRAME_SCHEMA = pa.schema(
    [_required("digest", DIGEST_TYPE), _required("data", pa.large_binary())],
    metadata=_METADATA,
)
"""One row per distinct image: SHA-256 of the compressed bytes, and the bytes."""


def check_schema(actual: pa.Schema, expected: pa.Schema) -> None:
    """Refuse a batch whose schema is not `expected`.

    Raises:
        SchemaVersionError: The metadata names another version, or none.
        SchemaError: A column is missing, unknown or of another type.
    """
    found = (actual.metadata or {}).get(VERSION_KEY)
    if found != expected.metadata[VERSION_KEY]:
        shown = "none" if found is None else found.decode(errors="replace")
        raise SchemaVersionError(
            f"Arrow schema version is {shown}, this build reads version {SCHEMA_VERSION}.",
            "run workers, learner and reader from the same release of croupier",
        )
    if actual.equals(expected):
        return
    missing = [name for name in expected.names if name not in actual.names]
    unknown = [name for name in actual.names if name not in expected.names]
    retyped = [
        f"{f.name} ({actual.field(f.name).type} instead of {f.type}, or nulls allowed)"
        for f in expected
        if actual.names.count(f.name) == 1 and not actual.field(f.name).equals(f)
    ]
    raise SchemaError(
        f"Arrow schema differs: missing {missing}, unknown {unknown}, of another type {retyped}; "
        "if all three are empty, the columns stand in another order or twice.",
        _CURE,
    )


def check_batch(batch: pa.RecordBatch, expected: pa.Schema) -> None:
    """Refuse a batch of another schema, or with a null where it may have none (Arrow itself does not look).

    Raises:
        SchemaVersionError, SchemaError: See `check_schema`; the message names the column with the null.
    """
    check_schema(batch.schema, expected)
    for field, column in zip(expected, batch.columns, strict=True):
        holes = 0 if field.nullable else column.null_count
        if pa.types.is_list(field.type):
            holes += column.values.null_count
        if holes:
            raise SchemaError(f"Column {field.name!r} holds {holes} null(s); it must not hold any.", _CURE)
