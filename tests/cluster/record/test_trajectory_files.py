"""Trajectories on disk: the schema of the wire, each frame once, and no trace of a lost continuation."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.record.trajectory_files import REASON_COLUMN, TrajectoryFiles, read_frames, read_steps
from protocol.codec import TrajectoryBatch, encode
from protocol.schema import FRAME_SCHEMA, STEP_SCHEMA, VERSION_KEY
from protocol.trajectory import EndReason, Frame
from protocol.validation import Rejection
from tests.protocol.steps import FRAME, NEXT_FRAME, batch_of, step, trajectory

THIRD_FRAME = Frame.of(b"a third picture")


def batch_with(frame: Frame, trajectory_id: str) -> TrajectoryBatch:
    return encode([step(trajectory_id=trajectory_id, frame_digests=(frame.digest,))], [frame])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rows_come_back_as_they_were_received(tmp_path):
    received = [batch_of(trajectory("a"), trajectory("b", EndReason.CUT)), batch_of(trajectory("c"))]
    TrajectoryFiles(tmp_path / "trajectories").write(1, received)
    steps = read_steps(tmp_path / "trajectories")
    assert steps.schema.equals(STEP_SCHEMA) and steps.schema.metadata == STEP_SCHEMA.metadata
    assert steps.equals(pa.Table.from_batches([b.steps for b in received]))
    assert read_frames(tmp_path / "trajectories") == {f.digest: f.data for f in (FRAME, NEXT_FRAME)}


def test_what_was_refused_lies_apart_with_the_reason(tmp_path):
    received = [batch_of(trajectory("a"), trajectory("b", EndReason.CUT)), batch_of(trajectory("c"))]
    files = TrajectoryFiles(tmp_path)
    files.write(1, received, [Rejection("b", 1, "digest not published")])
    files.write(2, [batch_of(trajectory("d"))])
    assert set(read_steps(tmp_path).column("trajectory_id").to_pylist()) == {"a", "c", "d"}
    refused = pq.read_table(tmp_path / "refused-000001.parquet")
    assert refused.drop_columns([REASON_COLUMN]).equals(
        pa.Table.from_batches([received[0].steps]).filter(pc.field("trajectory_id") == "b")
    )
    assert set(refused.column(REASON_COLUMN).to_pylist()) == {"digest not published"}
    assert not (tmp_path / "refused-000002.parquet").exists()
    TrajectoryFiles(tmp_path).write(1, received[1:])
    assert names_in(tmp_path) == ["frames-000001.parquet", "steps-000001.parquet"], "a lost continuation leaves nothing"


def test_files_of_somebody_else_stay(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "my-notes.parquet")
    TrajectoryFiles(tmp_path).write(1, [batch_of(trajectory("a"))])
    assert "my-notes.parquet" in names_in(tmp_path)


def test_files_are_read_by_pyarrow_and_pandas(tmp_path):
    TrajectoryFiles(tmp_path).write(1, [batch_of(trajectory("a"), trajectory("b", EndReason.TRUNCATED))])
    metadata = pq.read_schema(tmp_path / "steps-000001.parquet").metadata
    assert metadata[VERSION_KEY] == STEP_SCHEMA.metadata[VERSION_KEY]
    assert pq.read_schema(tmp_path / "frames-000001.parquet").equals(FRAME_SCHEMA, check_metadata=True)
    rows = pd.read_parquet(tmp_path / "steps-000001.parquet")
    assert list(rows.columns) == STEP_SCHEMA.names
    assert rows["trajectory_id"].tolist() == ["a", "a", "b", "b"]
    assert rows["response_token_ids"][0].tolist() == [7, 8, 9]
    assert rows["frame_digests"][0].tolist() == [FRAME.digest]
    frames = pd.read_parquet(tmp_path / "frames-000001.parquet")
    data_of = dict(zip(frames["digest"], frames["data"], strict=True))
    assert data_of[rows["bootstrap_frame_digests"][3][0]] == NEXT_FRAME.data


def test_a_frame_is_written_once(tmp_path):
    files = TrajectoryFiles(tmp_path)
    files.write(1, [batch_with(FRAME, "a"), batch_with(FRAME, "b")])
    files.write(2, [batch_with(FRAME, "c")])
    files.write(3, [batch_with(FRAME, "d"), batch_with(THIRD_FRAME, "e")])
    assert names_in(tmp_path) == [
        "frames-000001.parquet",
        "frames-000003.parquet",
        "steps-000001.parquet",
        "steps-000002.parquet",
        "steps-000003.parquet",
    ]
    digests = [pq.read_table(path).column("digest").to_pylist() for path in sorted(tmp_path.glob("frames-*"))]
    assert digests == [[FRAME.digest], [THIRD_FRAME.digest]]


def test_a_resumed_run_replaces_its_lost_continuation(tmp_path):
    first = TrajectoryFiles(tmp_path)
    for update, frame in enumerate((FRAME, NEXT_FRAME, THIRD_FRAME), start=1):
        first.write(update, [batch_with(frame, f"lost-{update}")])
    TrajectoryFiles(tmp_path)  # a run that is resumed and stopped at once touches nothing
    assert len(names_in(tmp_path)) == 6
    resumed = TrajectoryFiles(tmp_path)
    resumed.write(2, [batch_with(FRAME, "new-2")])
    assert names_in(tmp_path) == ["frames-000001.parquet", "steps-000001.parquet", "steps-000002.parquet"]
    resumed.write(3, [batch_with(NEXT_FRAME, "new-3")])
    assert read_steps(tmp_path).column("trajectory_id").to_pylist() == ["lost-1", "new-2", "new-3"]
    assert read_frames(tmp_path) == {f.digest: f.data for f in (FRAME, NEXT_FRAME)}


def test_some_frames_by_digest(tmp_path):
    TrajectoryFiles(tmp_path).write(1, [batch_with(FRAME, "a"), batch_with(THIRD_FRAME, "b")])
    unknown = bytes(32)
    assert read_frames(tmp_path, [THIRD_FRAME.digest, unknown]) == {THIRD_FRAME.digest: THIRD_FRAME.data}
    assert read_frames(tmp_path, []) == {}


def test_a_run_without_trajectories(tmp_path):
    assert read_steps(tmp_path).schema == STEP_SCHEMA and read_steps(tmp_path).num_rows == 0
    assert read_frames(tmp_path) == {}


def test_an_update_without_rows_leaves_an_empty_table(tmp_path):
    TrajectoryFiles(tmp_path).write(1, [])
    assert names_in(tmp_path) == ["steps-000001.parquet"]
    assert read_steps(tmp_path).num_rows == 0
