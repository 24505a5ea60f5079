import numpy as np
import pytest

from actors.builder import NextState, SlotIdentity, TrajectoryBuilder
from protocol.codec import encode
from protocol.errors import TrajectoryError
from protocol.trajectory import EndReason, Step
from protocol.validation import AdmissionRules, validate
from tests.protocol.steps import DIGEST, FRAME, NEXT_FRAME, VERSION, step

NEXT = NextState(np.array([5, 3], dtype=np.int32), (NEXT_FRAME,))
RULES = AdmissionRules(vocab_size=10, image_token_id=6, published={VERSION: DIGEST})


def row(index: int, trajectory_id: str = "a", end: EndReason = EndReason.NONE) -> Step:
    """A row as a slot appends it: its end is not written yet."""
    return step(
        trajectory_id=trajectory_id,
        step=index,
        end_reason=EndReason.NONE,
        terminated=end is EndReason.TERMINATED,
        truncated=end is EndReason.TRUNCATED,
    )


@pytest.mark.parametrize("end", [end for end in EndReason if end is not EndReason.NONE])
def test_the_last_row_carries_the_end_and_what_it_needs(end):
    builder = TrajectoryBuilder()
    builder.append(row(0), (FRAME,))
    builder.append(row(1, end=end), (FRAME,))
    builder.close(end, NEXT if end.needs_bootstrap else None)
    rows, frames = builder.take()
    assert [r.end_reason for r in rows] == [EndReason.NONE, end]
    assert [r.bootstrap_prompt_token_ids is not None for r in rows] == [False, end.needs_bootstrap]
    assert rows[1].bootstrap_frame_digests == ((NEXT_FRAME.digest,) if end.needs_bootstrap else ())
    assert frames == ([FRAME, NEXT_FRAME] if end.needs_bootstrap else [FRAME])
    assert validate(encode(rows, frames), RULES) == []


def test_only_an_appended_row_opens_a_trajectory():
    builder = TrajectoryBuilder()
    assert not builder.is_open
    builder.append(row(0), (FRAME,))
    assert builder.is_open
    builder.close(EndReason.TERMINATED)
    assert not builder.is_open


def test_closed_trajectories_are_handed_over_once_in_order():
    builder = TrajectoryBuilder()
    for name in ("a", "b"):
        for index in range(2):
            builder.append(row(index, name), (FRAME,))
        builder.close(EndReason.TERMINATED)
    assert [(r.trajectory_id, r.step) for r in builder.take()[0]] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert builder.take() == ([], [])


def test_rows_handed_over_are_not_touched_again():
    builder = TrajectoryBuilder()
    first = row(0)
    builder.append(first, (FRAME,))
    builder.close(EndReason.TERMINATED)
    rows, frames = builder.take()
    builder.append(row(0, "b"), (NEXT_FRAME,))
    builder.close(EndReason.TERMINATED)
    assert (len(rows), frames) == (1, [FRAME])
    assert first.end_reason is EndReason.NONE


def test_each_frame_is_kept_once():
    builder = TrajectoryBuilder()
    for index in range(3):
        builder.append(row(index), (FRAME, NEXT_FRAME))
    builder.close(EndReason.CUT, NEXT)
    assert builder.take()[1] == [FRAME, NEXT_FRAME]


def test_an_open_trajectory_cannot_be_handed_over():
    builder = TrajectoryBuilder()
    builder.append(row(0), (FRAME,))
    with pytest.raises(TrajectoryError, match="'a' is still open"):
        builder.take()


@pytest.mark.parametrize("end", list(EndReason))
def test_bootstrap_and_reason_must_agree(end):
    builder = TrajectoryBuilder()
    builder.append(row(0), (FRAME,))
    with pytest.raises(TrajectoryError, match=f"{end.value!r} and the bootstrap state disagree"):
        builder.close(end, None if end.needs_bootstrap else NEXT)
    assert builder.is_open


def test_nothing_open_cannot_be_closed():
    with pytest.raises(TrajectoryError, match="No open trajectory to end with 'cut'"):
        TrajectoryBuilder().close(EndReason.CUT, NEXT)


def test_episode_names_tell_worker_slot_and_number():
    identity = SlotIdentity(run_id="run", worker_id="worker-2", slot=5, seed=0)
    assert identity.episode_id(17) == "worker-2-5-17"
