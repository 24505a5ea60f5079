"""Frames by digest: what a mapping promises, over one batch or several, and that nothing is copied unasked."""

import pickle
import tracemalloc

import pytest

from protocol.codec import encode_frames
from protocol.errors import SchemaVersionError
from protocol.frame_table import FrameTable
from protocol.trajectory import Frame

A, B, C = (Frame.of(data) for data in (b"one", b"another one", b""))


def test_several_batches_read_as_one_mapping():
    table = FrameTable([encode_frames([A, B]), encode_frames([B, C])])
    assert table == {frame.digest: frame.data for frame in (A, B, C)}
    assert list(table) == [A.digest, B.digest, C.digest] and len(table) == 3
    assert table.get(Frame.of(b"missing").digest) is None and "a" not in table
    with pytest.raises(KeyError):
        table[b"missing"]


def test_a_slice_reads_its_own_rows():
    assert FrameTable([encode_frames([A, B, C]).slice(1)]) == {B.digest: B.data, C.digest: C.data}


def test_bytes_are_copied_when_they_are_asked_for_and_not_before():
    size = 1 << 20
    batch = encode_frames([Frame.of(bytes([number]) * size) for number in range(8)])
    tracemalloc.start()
    try:
        table = FrameTable([batch])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < size
    assert [table[digest] for digest in table] == [bytes([number]) * size for number in range(8)]


def test_a_table_survives_the_way_to_another_process():
    assert pickle.loads(pickle.dumps(FrameTable([encode_frames([A, B])]))) == {A.digest: A.data, B.digest: B.data}


def test_another_schema_is_refused():
    batch = encode_frames([A])
    with pytest.raises(SchemaVersionError):
        FrameTable([batch.replace_schema_metadata(None)])
