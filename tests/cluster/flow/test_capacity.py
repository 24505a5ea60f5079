"""The capacity rule under random arrivals, losses and slow publishes."""

from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.flow.capacity import Capacity


class Simulation:
    """Random workers, learner and servers around a Capacity; remembers at which version every chunk began."""

    def __init__(self, batch: int, chunk: int, staleness: int) -> None:
        self.flow, self.chunk, self.bound = Capacity(batch, staleness), chunk, staleness
        self.began: dict[Hashable, int] = {}
        self.running: list[int] = []
        self.batches: list[list[Hashable]] = []
        self.ages: list[int] = []

    def begin(self, pick: int) -> None:
        if self.flow.room_rows >= self.chunk:
            name = len(self.began)
            self.flow.begin(name, self.chunk)
            self.began[name] = self.flow.version
            self.running.append(name)

    def arrive(self, pick: int) -> None:
        if self.running:
            self.flow.arrive(self.running.pop(pick % len(self.running)))

    def lose(self, pick: int) -> None:
        if self.running:
            self.flow.lose(self.running.pop(pick % len(self.running)))

    def train(self, pick: int) -> None:
        update = self.flow.update
        names = self.flow.take()
        if names is not None:
            self.batches.append(names)
            self.ages += [update - self.began[name] for name in names]

    def publish(self, pick: int) -> None:
        if self.flow.version < self.flow.update:
            self.flow.acknowledge(self.flow.version + 1)


ACTIONS = ("begin", "begin", "begin", "arrive", "arrive", "train", "publish", "lose")


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.integers(1, 4),
    staleness=st.integers(0, 3),
    events=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 100)), max_size=150),
)
def test_staleness_is_bounded_batches_are_whole_and_nothing_is_lost_or_used_twice(chunks, staleness, events):
    run = Simulation(batch=chunks * 8, chunk=8, staleness=staleness)
    for action, pick in events:
        getattr(run, action)(pick)
        assert run.flow.running_rows == 8 * len(run.running)
        assert run.flow.running_rows + run.flow.waiting_rows <= (staleness + 1) * chunks * 8 + chunks * 8
    assert all(len(batch) == chunks for batch in run.batches)
    assert all(0 <= age <= staleness for age in run.ages)
    used = [name for batch in run.batches for name in batch]
    assert len(used) == len(set(used))


@settings(max_examples=200, deadline=None)
@given(
    chunks=st.integers(1, 4),
    staleness=st.integers(0, 3),
    events=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 100)), max_size=100),
)
def test_whatever_happened_before_the_run_can_always_go_on(chunks, staleness, events):
    run = Simulation(batch=chunks * 8, chunk=8, staleness=staleness)
    for action, pick in events:
        getattr(run, action)(pick)
    before = len(run.batches)
    for _ in range(3):
        while run.flow.version < run.flow.update:
            run.publish(0)
        while run.flow.room_rows >= 8:
            run.begin(0)
        while run.running:
            run.arrive(0)
        run.train(0)
    assert len(run.batches) >= before + 3


def test_without_staleness_it_is_lock_step():
    flow = Capacity(batch_rows=16, max_staleness=0)
    flow.begin("a", 8)
    flow.begin("b", 8)
    assert flow.room_rows == 0
    flow.arrive("b")
    assert flow.take() is None
    flow.arrive("a")
    assert flow.take() == ["b", "a"]
    assert flow.room_rows == 0, "nothing begins before the update is published"
    flow.acknowledge(1)
    assert flow.room_rows == 16


def test_with_staleness_one_the_next_batch_is_collected_while_the_learner_works():
    flow = Capacity(batch_rows=16, max_staleness=1)
    for name in "abcd":
        flow.begin(name, 8)
    for name in "dab":
        flow.arrive(name)
    assert flow.take() == ["d", "a"], "first come, first served while nothing is due"
    flow.acknowledge(1)
    assert flow.take() is None, "c began at version 0 and is due in update 1"
    flow.arrive("c")
    assert flow.take() == ["b", "c"]


def test_a_lost_chunk_gives_its_room_back():
    flow = Capacity(batch_rows=8, max_staleness=0, version=5)
    flow.begin("a", 8)
    flow.lose("a")
    assert (flow.room_rows, flow.running_rows) == (8, 0)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="batch_rows 0 must be at least 1"):
        Capacity(0, 0)
    flow = Capacity(batch_rows=8, max_staleness=0)
    with pytest.raises(ValueError, match="chunk of 3 rows does not divide a batch of 8"):
        flow.begin("a", 3)
    flow.begin("a", 8)
    with pytest.raises(ValueError, match="chunk of 8 rows has no room: 0 may begin at version 0"):
        flow.begin("b", 8)
    with pytest.raises(ValueError, match="version 1 cannot follow 0 while update 0 is next"):
        flow.acknowledge(1)
