import hashlib
from dataclasses import FrozenInstanceError

import pytest

from protocol.trajectory import DIGEST_BYTES, NO_DIGEST, EndReason, Frame, TokenRole, digest_of
from tests.protocol.steps import step


@pytest.mark.parametrize(
    ("reason", "needs_bootstrap"),
    [
        (EndReason.NONE, False),
        (EndReason.TERMINATED, False),
        (EndReason.TRUNCATED, True),
        (EndReason.CUT, True),
        (EndReason.ENV_ERROR, True),
    ],
)
def test_only_unfinished_episodes_need_a_bootstrap(reason, needs_bootstrap):
    assert reason.needs_bootstrap is needs_bootstrap


def test_role_numbers_are_part_of_the_wire_format():
    assert {role.name: role.value for role in TokenRole} == {"THOUGHT": 0, "ACTION": 1, "FORMAT": 2}


def test_a_frame_is_named_by_the_digest_of_its_bytes():
    frame = Frame.of(b"png")
    assert frame == Frame(hashlib.sha256(b"png").digest(), b"png")
    assert frame.digest == digest_of(b"png") != digest_of(b"pnG")
    assert len(frame.digest) == len(NO_DIGEST) == DIGEST_BYTES


def test_rows_and_frames_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        step().reward = 2.0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(FrozenInstanceError):
        Frame.of(b"png").data = b""  # pyright: ignore[reportAttributeAccessIssue]
