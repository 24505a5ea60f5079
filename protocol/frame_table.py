"""The frames of received batches, by digest, left where they lie.

Read by the learner, whose batches are views of shared memory: a frame that it has processed before is never touched,
and the bytes of another are copied when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from protocol.schema import FRAME_SCHEMA, check_schema


class FrameTable(Mapping[bytes, bytes]):
    """Digest to compressed bytes, over any number of frame batches, which live as long as the table.

    Args:
        batches: Record batches of `FRAME_SCHEMA`; of a frame that several hold, the last one's is read.

    Raises:
        SchemaError, SchemaVersionError: A batch has another schema.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._places: dict[bytes, tuple[pa.Array, int]] = {}
        for batch in batches:
            check_schema(batch.schema, FRAME_SCHEMA)
            data = batch.column("data")
            self._places |= {digest: (data, row) for row, digest in enumerate(batch.column("digest").to_pylist())}

    def __getitem__(self, digest: bytes) -> bytes:
        data, row = self._places[digest]
        return data[row].as_py()

    def __contains__(self, digest: object) -> bool:
        return digest in self._places

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
