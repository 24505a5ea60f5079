from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import (
    TrajectoryBatch,
    decode_frames,
    decode_steps,
    encode,
    encode_steps,
    list_rows,
)
from protocol.errors import SchemaError, SchemaVersionError, TrajectoryError
from protocol.schema import FRAME_SCHEMA, STEP_SCHEMA
from protocol.trajectory import EndReason, Frame, ParseStatus, Step
from tests.protocol.steps import FRAME, NEXT_FRAME, assert_same, batch_of, step, trajectory

IDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6)
FLOATS = st.floats(width=32, allow_nan=False)
DIGESTS = st.lists(st.binary(min_size=32, max_size=32), max_size=2).map(tuple)


def int32(ids: list[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int32)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Any row that the codec accepts, sensible or not."""
    tokens = draw(st.integers(1, 6))
    end = draw(st.sampled_from(EndReason))
    texts = ("trajectory_id", "run_id", "worker_id", "env_id", "task", "episode_id", "response_text", "action", "info")
    changes: dict[str, Any] = {name: draw(st.text(max_size=8)) for name in texts}
    changes |= {name: draw(FLOATS) for name in ("reward", "temperature", "sample_s", "env_s")}
    changes |= {name: draw(st.booleans()) for name in ("legal", "terminated", "truncated")}
    changes |= {name: draw(st.integers(-(2**31), 2**31 - 1)) for name in ("step", "policy_version")}
    return step(
        **changes,
        adapter_digest=draw(st.binary(min_size=32, max_size=32)),
        prompt_token_ids=int32(draw(IDS)),
        frame_digests=draw(DIGESTS),
        response_token_ids=int32(draw(st.lists(st.integers(0, 99), min_size=tokens, max_size=tokens))),
        behavior_log_probs=np.array(draw(st.lists(FLOATS, min_size=tokens, max_size=tokens)), dtype=np.float32),
        token_roles=np.array(draw(st.lists(st.integers(-128, 127), min_size=tokens, max_size=tokens)), dtype=np.int8),
        parse_status=draw(st.sampled_from(ParseStatus)),
        end_reason=end,
        bootstrap_prompt_token_ids=int32(draw(IDS)) if end.needs_bootstrap else None,
        bootstrap_frame_digests=draw(DIGESTS) if end.needs_bootstrap else (),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(steps(), max_size=5), st.data())
def test_rows_come_back_as_they_went_whole_or_sliced(rows, data):
    batch = encode_steps(rows)
    assert batch.schema.equals(STEP_SCHEMA, check_metadata=True)
    start = data.draw(st.integers(0, len(rows)))
    length = data.draw(st.integers(0, len(rows) - start))
    for part, expected in ((batch, rows), (batch.slice(start, length), rows[start : start + length])):
        part.validate(full=True)
        for got, given_row in zip(decode_steps(part), expected, strict=True):
            assert_same(got, given_row)


def test_log_probs_keep_their_bits():
    log_probs = np.array([-np.inf, np.nan, -1e-45, -0.0], dtype=np.float32)
    row = step(behavior_log_probs=log_probs, response_token_ids=int32([1, 2, 3, 4]), token_roles=np.zeros(4, np.int8))
    (got,) = decode_steps(encode_steps([row]))
    assert got.behavior_log_probs.tobytes() == log_probs.tobytes()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"response_token_ids": int32([7, 8])}, r"lengths \[2, 3, 3\]"),
        ({"behavior_log_probs": np.zeros(4, np.float32)}, r"lengths \[3, 4, 3\]"),
        ({"token_roles": np.zeros(1, np.int8)}, r"lengths \[3, 3, 1\]"),
        (
            {
                "response_token_ids": int32([]),
                "behavior_log_probs": np.zeros(0, np.float32),
                "token_roles": np.zeros(0, np.int8),
            },
            r"lengths \[0, 0, 0\]",
        ),
        ({"prompt_token_ids": int32([])}, "empty prompt"),
        ({"end_reason": EndReason.TRUNCATED}, "ends with 'truncated' and lacks a bootstrap prompt"),
        ({"end_reason": EndReason.CUT}, "ends with 'cut' and lacks a bootstrap prompt"),
        ({"end_reason": EndReason.ENV_ERROR}, "ends with 'env_error' and lacks a bootstrap prompt"),
        ({"bootstrap_prompt_token_ids": int32([1])}, "ends with 'terminated' and carries a bootstrap prompt"),
        (
            {"end_reason": EndReason.NONE, "bootstrap_prompt_token_ids": int32([1])},
            "ends with 'none' and carries a bootstrap prompt",
        ),
        ({"end_reason": EndReason.CUT, "bootstrap_prompt_token_ids": int32([])}, "empty prompt or bootstrap prompt"),
        ({"bootstrap_frame_digests": (FRAME.digest,)}, "bootstrap frames without a bootstrap prompt"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_refused_by_name(changes, complaint):
    with pytest.raises(TrajectoryError, match=f"(?s)Step 4 of trajectory 'b'.*{complaint}"):
        encode_steps([step(), step(trajectory_id="b", step=4, **changes)])


@pytest.mark.parametrize("changes", [{"adapter_digest": b"abc"}, {"frame_digests": (b"abc",)}])
def test_digests_have_32_bytes(changes):
    with pytest.raises(TrajectoryError, match="not 32 bytes long"):
        encode_steps([step(**changes)])


def test_each_named_frame_travels_once_and_others_stay():
    rows = trajectory("a", EndReason.CUT, length=3)
    batch = encode(rows, [FRAME, NEXT_FRAME, FRAME, Frame.of(b"not named")])
    assert decode_frames(batch.frames) == {f.digest: f.data for f in (FRAME, NEXT_FRAME)}
    assert batch.frames.num_rows == 2


@pytest.mark.parametrize("given_frames", [[FRAME], [NEXT_FRAME], []])
def test_a_frame_that_is_named_must_be_handed_over(given_frames):
    with pytest.raises(TrajectoryError, match=f"{2 - len(given_frames)} frame.s. named by steps were not handed over"):
        encode(trajectory("a", EndReason.CUT), given_frames)


def test_an_empty_batch_has_the_schema():
    batch = encode([], [FRAME])
    assert (batch.steps.num_rows, batch.frames.num_rows) == (0, 0)
    assert decode_steps(batch.steps) == [] and decode_frames(batch.frames) == {}


def test_list_rows_looks_into_the_arrow_buffer():
    batch = batch_of(trajectory("a", EndReason.CUT), trajectory("b"))
    column = batch.steps.column("response_token_ids")
    whole = column.values.to_numpy()
    assert all(np.shares_memory(row, whole) for row in list_rows(column))
    bootstrap = list_rows(batch.steps.column("bootstrap_prompt_token_ids"))
    assert [None if row is None else row.tolist() for row in bootstrap] == [None, [5, 5, 5, 3], None, None]
    assert [row is None for row in list_rows(batch.steps.slice(1, 2).column("bootstrap_prompt_token_ids"))] == [
        False,
        True,
    ]


def test_a_batch_says_how_large_it_is():
    batch = batch_of(trajectory("a"))
    assert batch.nbytes == batch.steps.nbytes + batch.frames.nbytes > 0


STEPS = batch_of(trajectory("a")).steps
FRAMES = batch_of(trajectory("a")).frames
OTHER_VERSION = {b"croupier_schema_version": b"0"}


@pytest.mark.parametrize(
    ("steps_", "frames", "error"),
    [
        (STEPS.replace_schema_metadata(OTHER_VERSION), FRAMES, SchemaVersionError),
        (STEPS, FRAMES.replace_schema_metadata(OTHER_VERSION), SchemaVersionError),
        (STEPS.replace_schema_metadata(None), FRAMES, SchemaVersionError),
        (STEPS.drop_columns(["reward"]), FRAMES, SchemaError),
        (FRAMES, FRAMES, SchemaError),
        (STEPS, STEPS, SchemaError),
    ],
)
def test_a_batch_of_another_schema_cannot_be_made(steps_, frames, error):
    with pytest.raises(error):
        TrajectoryBatch(steps_, frames)


@pytest.mark.parametrize("decode", [decode_steps, decode_frames])
def test_decoding_checks_the_version(decode):
    batch = STEPS if decode is decode_steps else FRAMES
    decode(batch)
    with pytest.raises(SchemaVersionError):
        decode(batch.replace_schema_metadata(OTHER_VERSION))


def through_ipc(batch: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_stream(file).read_next_batch()


def through_parquet(batch: pa.RecordBatch, path: Path) -> pa.RecordBatch:
    pq.write_table(pa.Table.from_batches([batch]), path)
    (read,) = pq.read_table(path).combine_chunks().to_batches()
    return read


@pytest.mark.parametrize("carry", [through_ipc, through_parquet])
def test_batches_survive_files_with_their_metadata(carry, tmp_path):
    rows = [*trajectory("a", EndReason.TRUNCATED), *trajectory("b"), step(trajectory_id="c", response_text="Zug → ☃")]
    sent = encode(rows, [FRAME, NEXT_FRAME])
    steps_, frames = carry(sent.steps.slice(1), tmp_path / "steps"), carry(sent.frames, tmp_path / "frames")
    # Parquet calls the values of a list "element" and not "item"; Arrow's equality without metadata does not mind.
    assert steps_.schema.equals(STEP_SCHEMA) and steps_.schema.metadata == STEP_SCHEMA.metadata
    assert frames.schema.equals(FRAME_SCHEMA) and frames.schema.metadata == FRAME_SCHEMA.metadata
    received = TrajectoryBatch(steps_, frames)
    for got, given_row in zip(decode_steps(received.steps), rows[1:], strict=True):
        assert_same(got, given_row)
    assert decode_frames(received.frames) == decode_frames(sent.frames)
