import math

import numpy as np
import pytest

from protocol.codec import TrajectoryBatch, encode, encode_frames
from protocol.trajectory import DEMONSTRATION_VERSION, NO_DIGEST, EndReason, Frame
from protocol.validation import AdmissionRules, Rejection, validate
from tests.protocol.steps import DIGEST, FRAME, NEXT_FRAME, VERSION, batch_of, spoiled, step, trajectory

IMAGE = 5
RULES = AdmissionRules(vocab_size=10, image_token_id=IMAGE, published={VERSION: DIGEST, 4: bytes(32)})
# Rows 0-1: a, terminated. Rows 2-4: b, cut. Rows 5-6: c, truncated. The tests spoil b.
GOOD = batch_of(trajectory("a"), trajectory("b", EndReason.CUT, length=3), trajectory("c", EndReason.TRUNCATED))
LAST = 4

OUTSIDE = "outside the vocabulary of 10"
POSITION = "end_reason and the position in the trajectory disagree"
BOOTSTRAP = "bootstrap state and end_reason disagree"
LENGTHS = "response_token_ids, behavior_log_probs and token_roles differ in length"
INFINITE = "behavior_log_probs hold a NaN or an infinity"
FOREIGN = "policy_version and adapter_digest name no adapter that this learner published"


def test_good_trajectories_pass():
    assert validate(GOOD, RULES) == []
    assert validate(batch_of(*(trajectory(end.value, end) for end in EndReason if end != EndReason.NONE)), RULES) == []


def test_an_empty_batch_passes():
    assert validate(encode([], []), RULES) == []


@pytest.mark.parametrize(
    ("row", "values", "reason"),
    [
        (2, {"behavior_log_probs": [-0.5, math.nan, -0.5]}, INFINITE),
        (3, {"behavior_log_probs": [math.inf, -0.5, -0.5]}, INFINITE),
        (4, {"behavior_log_probs": [-0.5, -0.5, -math.inf]}, INFINITE),
        (3, {"behavior_log_probs": [-0.5, -0.5, 0.002]}, "behavior_log_probs above 0: no log-probabilities"),
        (3, {"behavior_log_probs": [-0.5, -0.5]}, LENGTHS),
        (3, {"token_roles": [0, 0, 1, 1]}, LENGTHS),
        (3, {"response_token_ids": [7]}, LENGTHS),
        (3, {"response_token_ids": [], "behavior_log_probs": [], "token_roles": []}, "empty response"),
        (2, {"token_roles": [0, 3, 1]}, "unknown token role"),
        (2, {"token_roles": [-1, 0, 1]}, "unknown token role"),
        (2, {"prompt_token_ids": []}, "empty prompt"),
        (LAST, {"bootstrap_prompt_token_ids": []}, "empty bootstrap prompt"),
        (2, {"prompt_token_ids": [5, 10]}, f"prompt_token_ids {OUTSIDE}"),
        (2, {"prompt_token_ids": [-1, 5]}, f"prompt_token_ids {OUTSIDE}"),
        (2, {"response_token_ids": [7, 8, 10]}, f"response_token_ids {OUTSIDE}"),
        (2, {"response_token_ids": [-1, 8, 9]}, f"response_token_ids {OUTSIDE}"),
        (LAST, {"bootstrap_prompt_token_ids": [5, 10]}, f"bootstrap_prompt_token_ids {OUTSIDE}"),
        (LAST, {"bootstrap_prompt_token_ids": [-1]}, f"bootstrap_prompt_token_ids {OUTSIDE}"),
        (
            3,
            {"response_token_ids": [7, IMAGE, 9]},
            "the response holds the image placeholder id, which must be banned from sampling",
        ),
        (2, {"reward": math.nan}, "reward is not finite"),
        (2, {"reward": -math.inf}, "reward is not finite"),
        (2, {"temperature": math.nan}, "temperature is below 0 or not finite"),
        (2, {"temperature": -0.5}, "temperature is below 0 or not finite"),
        (3, {"adapter_digest": bytes(32)}, FOREIGN),
        (3, {"policy_version": 2}, FOREIGN),
        (3, {"policy_version": 4}, FOREIGN),
        (2, {"frame_digests": [FRAME.digest, bytes(32)]}, "a frame named by the row is not in the batch"),
        (LAST, {"bootstrap_frame_digests": [bytes(32)]}, "a frame named by the row is not in the batch"),
        (3, {"step": 2}, "the rows of a trajectory are not contiguous"),
        (3, {"step": 0}, "the rows of a trajectory are not contiguous"),
        (3, {"end_reason": "terminated", "terminated": True}, POSITION),
        (LAST, {"end_reason": "none"}, POSITION),
        (LAST, {"end_reason": "tired"}, "unknown end_reason"),
        (LAST, {"terminated": True}, "terminated and end_reason disagree"),
        (LAST, {"truncated": True}, "truncated and end_reason disagree"),
        (LAST, {"end_reason": "terminated"}, "terminated and end_reason disagree"),
        (LAST, {"end_reason": "truncated"}, "truncated and end_reason disagree"),
        (3, {"truncated": True}, "truncated and end_reason disagree"),
        (3, {"bootstrap_prompt_token_ids": [1]}, BOOTSTRAP),
        (LAST, {"bootstrap_prompt_token_ids": None}, BOOTSTRAP),
        (LAST, {"end_reason": "terminated", "terminated": True}, BOOTSTRAP),
    ],
)
def test_one_bad_row_refuses_its_trajectory_and_no_other(row, values, reason):
    bad = spoiled(GOOD, row, **values)
    expected = Rejection("b", row - 2, reason)
    if "step" in values:
        expected = Rejection("b", values["step"], reason)
    assert validate(bad, RULES) == [expected]
    # The same in a slice, whose lists start in the middle of the Arrow buffers.
    assert validate(TrajectoryBatch(bad.steps.slice(2, 3), bad.frames), RULES) == [expected]


@pytest.mark.parametrize(
    ("row", "values"),
    [
        (2, {"behavior_log_probs": [0.0, 0.0005, -1e30]}),  # rounding may lift a log-prob just above 0
        (2, {"prompt_token_ids": [0, 9, IMAGE], "response_token_ids": [0, 9, 9]}),
        (2, {"frame_digests": []}),
        (2, {"temperature": 0.0, "reward": -1e30}),
        (2, {"policy_version": 4, "adapter_digest": bytes(32)}),
        (2, {"response_text": "", "action": "", "info": "no JSON", "parse_status": "ambiguous", "legal": False}),
    ],
)
def test_extreme_but_right_values_pass(row, values):
    assert validate(spoiled(GOOD, row, **values), RULES) == []


def test_demonstrations_pass_where_they_count_as_published():
    rows = [step(policy_version=DEMONSTRATION_VERSION, adapter_digest=NO_DIGEST)]
    batch = encode(rows, [FRAME])
    assert validate(batch, AdmissionRules(10, IMAGE, {DEMONSTRATION_VERSION: NO_DIGEST})) == []
    assert [r.reason for r in validate(batch, RULES)] == [FOREIGN]


def test_the_first_bad_row_gives_the_reason():
    twice = spoiled(spoiled(GOOD, LAST, reward=math.nan), 3, policy_version=2)
    assert validate(twice, RULES) == [Rejection("b", 1, FOREIGN)]


def test_each_bad_trajectory_is_named():
    both = spoiled(spoiled(GOOD, 6, reward=math.nan), 0, policy_version=2)
    assert [(r.trajectory_id, r.step) for r in validate(both, RULES)] == [("a", 0), ("c", 1)]


@pytest.mark.parametrize(
    ("order", "refused"),
    [
        ([2, 3, 4, 0, 1, 5, 6], []),  # trajectories may come in any order
        ([0, 2, 3, 4, 1, 5, 6], ["a"]),  # another trajectory between two rows
        ([1, 0, 2, 3, 4, 5, 6], ["a"]),  # rows of one trajectory swapped
        ([0, 1, 2, 4, 5, 6], ["b"]),  # a row lost
        ([0, 2, 3, 4, 5, 6], ["a"]),  # the last row lost
        ([0, 1, 0, 1, 2, 3, 4], ["a"]),  # delivered twice in one batch
        ([0, 1, 2, 3, 4, 0, 1], ["a"]),  # the same, as two pieces apart
        ([3, 4, 5, 6], []),  # a piece may start anywhere in its episode
    ],
)
def test_the_order_of_rows(order, refused):
    batch = TrajectoryBatch(GOOD.steps.take(np.array(order)), GOOD.frames)
    assert [r.trajectory_id for r in validate(batch, RULES)] == refused


@pytest.mark.parametrize(
    ("frames", "refused"),
    [
        ([FRAME, NEXT_FRAME], []),
        ([FRAME], ["b", "c"]),
        ([NEXT_FRAME, Frame.of(b"another picture")], ["a", "b", "c"]),
    ],
)
def test_frames_have_to_be_in_the_same_batch(frames, refused):
    batch = TrajectoryBatch(GOOD.steps, encode_frames(frames))
    assert [r.trajectory_id for r in validate(batch, RULES)] == refused


def test_a_slice_through_a_trajectory_refuses_what_it_cuts_short():
    batch = TrajectoryBatch(GOOD.steps.slice(1, 3), GOOD.frames)  # the last row of a, the first two of b
    assert validate(batch, RULES) == [Rejection("b", 1, POSITION)]
