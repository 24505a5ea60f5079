"""Small valid trajectories, and ways to break them behind the codec's back."""

from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa

from protocol.codec import TrajectoryBatch, encode
from protocol.schema import STEP_SCHEMA
from protocol.trajectory import EndReason, Frame, ParseStatus, Step

FRAME = Frame.of(b"picture of a state")
NEXT_FRAME = Frame.of(b"picture of the state after it")
DIGEST = bytes(range(32))
VERSION = 3


def step(**changes: Any) -> Step:
    """The only row of a terminated trajectory."""
    values: dict[str, Any] = {
        "trajectory_id": "a",
        "run_id": "run",
        "worker_id": "worker-0",
        "env_id": "test/Env-v0",
        "task": "",
        "prompt_switches": "{}",
        "reset_seed": 0,
        "episode_id": "episode",
        "step": 0,
        "policy_version": VERSION,
        "adapter_digest": DIGEST,
        "prompt_token_ids": np.array([5, 5, 1, 2], dtype=np.int32),
        "frame_digests": (FRAME.digest,),
        "response_token_ids": np.array([7, 8, 9], dtype=np.int32),
        "behavior_log_probs": np.array([-0.5, -0.25, 0.0], dtype=np.float32),
        "token_roles": np.array([2, 0, 1], dtype=np.int8),
        "response_text": '{"action": "+"}',
        "action": "+",
        "parse_status": ParseStatus.OK,
        "legal": True,
        "reward": 1.0,
        "terminated": True,
        "truncated": False,
        "end_reason": EndReason.TERMINATED,
        "temperature": 1.0,
    }
    return Step(**(values | changes))


def trajectory(trajectory_id: str, end: EndReason = EndReason.TERMINATED, length: int = 2) -> list[Step]:
    """`length` rows that end for the reason `end`, with a bootstrap state where that needs one."""
    inner = {"terminated": False, "end_reason": EndReason.NONE, "reward": 0.0}
    last: dict[str, Any] = {
        "terminated": end is EndReason.TERMINATED,
        "truncated": end is EndReason.TRUNCATED,
        "end_reason": end,
    }
    if end.needs_bootstrap:
        last["bootstrap_prompt_token_ids"] = np.array([5, 5, 5, 3], dtype=np.int32)
        last["bootstrap_frame_digests"] = (NEXT_FRAME.digest,)
    return [
        step(trajectory_id=trajectory_id, step=index, **(last if index == length - 1 else inner))
        for index in range(length)
    ]


def batch_of(*trajectories: list[Step]) -> TrajectoryBatch:
    return encode([row for rows in trajectories for row in rows], [FRAME, NEXT_FRAME])


def spoiled(batch: TrajectoryBatch, row: int, **values: Any) -> TrajectoryBatch:
    """The same batch with other values in one row; unlike `encode`, this accepts anything of the right type."""
    rows = batch.steps.to_pylist()
    rows[row] |= values
    return TrajectoryBatch(pa.RecordBatch.from_pylist(rows, schema=STEP_SCHEMA), batch.frames)


def assert_same(left: Step, right: Step) -> None:
    """Every field is equal: arrays with their dtype, a NaN equal to itself."""
    for field in fields(Step):
        mine, theirs = getattr(left, field.name), getattr(right, field.name)
        if isinstance(mine, np.ndarray):
            assert isinstance(theirs, np.ndarray) and mine.dtype == theirs.dtype, field.name
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        else:
            assert type(mine) is type(theirs) and mine == theirs, field.name
