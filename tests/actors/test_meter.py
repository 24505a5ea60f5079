"""The busy meter on a clock that the test sets."""

import pytest

from actors.meter import BusyMeter


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> BusyMeter:
    return BusyMeter(clock)


def test_a_server_that_has_not_started_is_not_idle_either(meter, clock):
    clock.now_s += 5
    assert (meter.serving_s, meter.busy_s, meter.in_flight) == (0.0, 0.0, 0)


def test_overlapping_requests_count_their_seconds_once(meter, clock):
    meter.begin_serving()
    clock.now_s += 1  # idle
    with meter.live():
        clock.now_s += 2
        with meter.live():
            clock.now_s += 4
            assert meter.in_flight == 2
        clock.now_s += 8
    clock.now_s += 16  # idle
    assert (meter.busy_s, meter.serving_s, meter.in_flight) == (14.0, 31.0, 0)


def test_a_look_in_the_middle_of_a_request_counts_it_up_to_now(meter, clock):
    meter.begin_serving()
    with meter.live():
        clock.now_s += 3
        assert meter.busy_s == 3.0
        clock.now_s += 1
        assert meter.busy_s == 4.0
    clock.now_s += 1
    assert meter.busy_s == 4.0


def test_a_batch_is_live_as_a_whole_and_an_empty_one_is_not(meter, clock):
    with meter.live(3):
        assert meter.in_flight == 3
        clock.now_s += 1
    with meter.live(0):
        clock.now_s += 1
    assert (meter.in_flight, meter.busy_s) == (0, 1.0)


def test_a_request_that_fails_is_over(meter, clock):
    with pytest.raises(KeyError), meter.live():
        clock.now_s += 2
        raise KeyError
    clock.now_s += 2
    assert (meter.in_flight, meter.busy_s) == (0, 2.0)
