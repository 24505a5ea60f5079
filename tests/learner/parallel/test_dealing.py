import numpy as np
import pytest

from learner.batching import microbatches
from learner.parallel.dealing import deal_passes
from learner.parallel.group import ALONE
from tests.learner.parallel.threads import members

LENGTHS = np.array([9, 3, 7, 12, 5, 5, 8, 30, 4, 6])


def dealt(size, lengths, index, budget, state_of=None):
    """Passes of every process; no process needs another to know them."""
    index = np.array(index, dtype=np.int64)
    return [deal_passes(group, lengths, index, budget, state_of) for group in members(size)]


def rows_of(passes):
    return [row for p in passes if p.counts for row in p.rows.tolist()]


def test_a_process_alone_makes_the_microbatches_as_they_are():
    index = np.array([7, 0, 3, 2])
    made = deal_passes(ALONE, LENGTHS, index, 20, lambda row: (b"", ()))
    expected = microbatches(LENGTHS, index, 20)
    assert [p.rows.tolist() for p in made] == [rows.tolist() for rows in expected]
    assert all(p.counts and p.weight == 1.0 for p in made)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("index", [[0], [4, 1], [0, 1, 2, 3, 4], list(range(10)), [7, 3, 0], [5, 5, 5, 2]])
@pytest.mark.parametrize("budget", [1, 20, 1000])
@pytest.mark.parametrize("states", [1, 3, 10, None])
def test_every_row_counts_once_and_every_process_makes_equally_many_passes(size, index, budget, states):
    state_of = None if states is None else lambda row: (bytes([row % states]), (b"picture",))
    ranks = dealt(size, LENGTHS, index, budget, state_of)
    assert sorted(row for passes in ranks for row in rows_of(passes)) == sorted(index)
    assert len({len(passes) for passes in ranks}) == 1
    assert len(ranks[0]) >= 1
    padding = [p for passes in ranks for p in passes if not p.counts]
    assert all(p.weight == 0.0 and len(p.rows) == 1 for p in padding)
    assert all(LENGTHS[p.rows[0]] == LENGTHS[index].min() for p in padding)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("states", [1, 2, 30, None])
def test_shares_are_even(size, states):
    lengths = np.random.default_rng(0).integers(20, 60, size=128)
    state_of = None if states is None else lambda row: (b"prompt", (bytes([row % states]),))
    ranks = dealt(size, lengths, np.arange(128), 10_000, state_of)
    tokens = [int(lengths[rows_of(passes)].sum()) for passes in ranks]
    assert max(tokens) < 1.15 * sum(tokens) / size


def test_rows_of_one_state_stay_together_and_mostly_at_one_home():
    rng = np.random.default_rng(1)
    lengths, states = np.full(512, 40), rng.integers(0, 40, size=512)
    homes: dict[int, set[int]] = {}
    for part in rng.permutation(512).reshape(4, 128):
        ranks = dealt(2, lengths, part, 10_000, lambda row: (bytes([states[row]]), ()))
        held = [{int(states[row]) for row in rows_of(passes)} for passes in ranks]
        assert not held[0] & held[1], "a state is in two hands"
        for rank, own in enumerate(held):
            for state in own:
                homes.setdefault(state, set()).add(rank)
    assert sum(len(ranks) == 1 for ranks in homes.values()) >= 28


def test_no_rows_are_no_passes():
    assert dealt(2, LENGTHS, [], 100) == [[], []]
