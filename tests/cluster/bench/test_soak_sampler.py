"""Sampling follows the run's clock and ends with it; whatever ends it, the run is asked to stop."""

import pytest

from cluster.bench import soak_sampler
from cluster.bench.soak_sampler import Sample, sample_until_over
from cluster.runtime.waiting import StopFlag

VALUES = {("memory", "driver"): 1.0}


class FakeRun:
    """A clock that only sleeping moves; the first update ends after a second."""

    def __init__(self, length_s=10.0):
        self.now, self.length_s = -1.0, length_s

    @property
    def running_s(self):
        return None if self.now < 0 else self.now

    def is_over(self, at_s):
        return at_s >= self.length_s


@pytest.fixture
def run(monkeypatch):
    run = FakeRun()

    def sleep(seconds):
        run.now += seconds

    monkeypatch.setattr(soak_sampler.time, "sleep", sleep)
    return run


def test_samples_from_the_first_update_to_the_end(run):
    stop = StopFlag()
    samples = sample_until_over(lambda: VALUES, run, 2.5, stop)
    assert samples == [Sample(at_s, VALUES) for at_s in (0.0, 2.5, 5.0, 7.5, 10.0)]
    assert stop.is_set


def test_a_run_that_is_stopped_keeps_its_samples_but_none_of_its_end(run):
    stop = StopFlag()

    def read():
        if run.now >= 5:
            stop.set()
        return VALUES

    assert [sample.at_s for sample in sample_until_over(read, run, 2.5, stop)] == [0.0, 2.5]


def test_a_run_that_cannot_be_read_is_stopped(run):
    stop = StopFlag()

    def read():
        raise RuntimeError("no raylet")

    with pytest.raises(RuntimeError, match="no raylet"):
        sample_until_over(read, run, 2.5, stop)
    assert stop.is_set


def test_nothing_is_read_of_a_run_that_never_began(run):
    stop = StopFlag()
    stop.set()
    assert sample_until_over(lambda: pytest.fail("read"), run, 2.5, stop) == []
