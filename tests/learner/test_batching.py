import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.batching import collate, collate_tokens, microbatches, pad_right
from learner.rows import gather_rows


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_padding_is_on_the_right_and_masks_say_what_is_real():
    batch = collate_tokens([ints(5, 6, 7), ints(8)], [ints(1), ints(2, 3)], [(), ()], {}, pad_id=9)
    assert batch.input_ids.tolist() == [[5, 6, 7, 1], [8, 2, 3, 9]]
    assert batch.prompt_lengths.tolist() == [3, 1]
    assert batch.response_ids.tolist() == [[1, 0], [2, 3]]
    assert batch.response_mask.tolist() == [[True, False], [True, True]]
    assert batch.temperatures.tolist() == [1.0, 1.0]


def test_value_only_batches_have_no_response_columns():
    batch = collate_tokens([ints(5, 6), ints(7)], [ints(), ints()], [(), ()], {}, pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6], [7, 0]]
    assert batch.response_mask.shape == (2, 0)


def test_collate_takes_the_rows_asked_for_in_that_order(world):
    steps = world.mixed_steps()
    rows = gather_rows([world.batch(steps)])
    batch = collate(rows, np.array([6, 0]), pad_id=0)
    assert batch.digests == (steps[6].frame_digests, steps[0].frame_digests)
    first = len(steps[6].prompt_token_ids)
    assert batch.input_ids[0, :first].tolist() == steps[6].prompt_token_ids.tolist()


def test_pad_right_of_floats():
    padded, valid_mask = pad_right([np.array([1.5]), np.array([2.0, 3.0])], np.dtype(np.float32))
    assert padded.tolist() == [[1.5, 0.0], [2.0, 3.0]]
    assert valid_mask.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([3, 3, 3, 3], 6, [[0, 1], [2, 3]]),
        ([9, 1, 1, 1], 4, [[1, 2, 3], [0]]),
        ([5, 2], 9, [[1], [0]]),
        ([5, 2], 10, [[1, 0]]),
        ([7], 1, [[0]]),
    ],
)
def test_microbatches_by_hand(lengths, budget, expected):
    made = microbatches(np.array(lengths), np.arange(len(lengths)), budget)
    assert [group.tolist() for group in made] == expected


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60), budget=st.integers(1, 200))
def test_microbatches_hold_every_row_once_within_the_budget(lengths, budget):
    index = np.arange(len(lengths))[::2]
    groups = microbatches(np.array(lengths), index, budget)
    assert sorted(np.concatenate(groups).tolist()) == index.tolist()
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget
