from typing import Any

import pyarrow as pa
import pytest

from protocol.errors import SchemaError, SchemaVersionError
from protocol.schema import FRAME_SCHEMA, SCHEMA_VERSION, STEP_SCHEMA, VERSION_KEY, check_batch, check_schema
from tests.protocol.steps import batch_of, trajectory

REWARD = STEP_SCHEMA.get_field_index("reward")


def test_the_version_travels_in_the_metadata():
    assert SCHEMA_VERSION == 2
    assert STEP_SCHEMA.metadata == FRAME_SCHEMA.metadata == {VERSION_KEY: b"2"}


def test_only_bootstrap_columns_may_be_null():
    nullable = [field.name for field in (*STEP_SCHEMA, *FRAME_SCHEMA) if field.nullable]
    assert nullable == ["bootstrap_prompt_token_ids", "bootstrap_frame_digests"]


def test_its_own_schemas_pass():
    check_schema(STEP_SCHEMA, STEP_SCHEMA)
    check_schema(FRAME_SCHEMA.with_metadata({**FRAME_SCHEMA.metadata, b"pandas": b"{}"}), FRAME_SCHEMA)


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [(None, "none"), ({}, "none"), ({b"other": b"1"}, "none"), ({VERSION_KEY: b"3"}, "3")],
)
def test_another_version_is_refused(metadata, shown):
    with pytest.raises(SchemaVersionError, match=f"version is {shown}, this build reads version 2"):
        check_schema(STEP_SCHEMA.with_metadata(metadata), STEP_SCHEMA)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (STEP_SCHEMA.remove(REWARD), r"missing \['reward'\], unknown \[\]"),
        (STEP_SCHEMA.append(pa.field("bonus", pa.float32())), r"missing \[\], unknown \['bonus'\]"),
        (STEP_SCHEMA.set(REWARD, pa.field("reward", pa.float64(), False)), "reward .double instead of float"),
        (STEP_SCHEMA.set(REWARD, pa.field("reward", pa.float32())), "reward .*or nulls allowed"),
        (pa.schema(list(STEP_SCHEMA)[::-1], STEP_SCHEMA.metadata), "in another order"),
        (STEP_SCHEMA.append(STEP_SCHEMA.field(REWARD)), "twice"),
        (FRAME_SCHEMA, "missing .'trajectory_id'"),
    ],
)
def test_another_column_is_refused(changed, complaint):
    with pytest.raises(SchemaError, match=complaint) as caught:
        check_schema(changed, STEP_SCHEMA)
    assert not isinstance(caught.value, SchemaVersionError)


def with_value(name: str, value: Any) -> pa.RecordBatch:
    rows = batch_of(trajectory("a")).steps.to_pylist()
    rows[1][name] = value
    return pa.RecordBatch.from_pylist(rows, schema=STEP_SCHEMA)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trajectory_id", None),
        ("reward", None),
        ("response_token_ids", None),
        ("response_token_ids", [7, None, 9]),
        ("frame_digests", [None]),
        ("bootstrap_prompt_token_ids", [None]),
    ],
)
def test_a_null_is_refused_although_arrow_lets_it_pass(name, value):
    with pytest.raises(SchemaError, match=f"Column '{name}' holds 1 null"):
        check_batch(with_value(name, value), STEP_SCHEMA)


def test_a_missing_bootstrap_is_no_null_too_many():
    check_batch(with_value("bootstrap_prompt_token_ids", None), STEP_SCHEMA)
