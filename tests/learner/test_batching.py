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


def states_of(*numbers: int, tokens: int = 4):
    """Row to state: equal numbers are equal prompts of `tokens` tokens."""
    return lambda row: (np.full(tokens, numbers[row], dtype=np.int32).tobytes(), ())


def test_rows_of_one_state_stay_together_and_count_their_prompt_once():
    lengths = np.array([6, 7, 6, 8])
    made = microbatches(lengths, np.arange(4), 100, states_of(1, 2, 1, 2))
    assert [group.tolist() for group in made] == [[0, 2, 1, 3]]
    made = microbatches(lengths, np.arange(4), 11, states_of(1, 2, 1, 2))
    assert [group.tolist() for group in made] == [[0, 2], [1, 3]]  # 6 + 2 tokens; 7 + 4
    made = microbatches(lengths, np.arange(4), 10, states_of(1, 2, 1, 2))
    assert [group.tolist() for group in made] == [[0, 2], [1], [3]]


def test_where_all_states_differ_groups_are_those_of_padded_rows():
    lengths = np.array([6, 9, 6, 8])
    plain = microbatches(lengths, np.arange(4), 13)
    made = microbatches(lengths, np.arange(4), 13, states_of(1, 2, 3, 4))
    assert [group.tolist() for group in made] == [group.tolist() for group in plain]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20)), min_size=1, max_size=40), budget=st.integers(1, 90)
)
def test_groups_by_state_hold_every_row_once_within_the_budget(rows, budget):
    numbers, lengths = [n for n, _ in rows], np.array([4 + t for _, t in rows])
    index = np.arange(len(rows))[::-1].copy()
    groups = microbatches(lengths, index, budget, states_of(*numbers))
    assert sorted(np.concatenate(groups).tolist()) == sorted(index.tolist())
    for group in groups:
        prompts = 4 * len({numbers[i] for i in group})
        assert len(group) == 1 or prompts + int((lengths[group] - 4).sum()) <= max(budget, lengths[group].max())
