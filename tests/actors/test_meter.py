"""The busy meter on a clock that the test sets."""

import random

import pytest

from actors.delays import CAUSES, ENVIRONMENTS, LEARNER, OTHER, PUBLISHING, TRANSPORT, WAKING, Delays
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


def told(meter: BusyMeter) -> dict[str, float]:
    return {cause: seconds for cause, seconds in meter.idle_s.items() if seconds}


def test_an_idle_time_is_explained_backwards_by_the_request_that_ends_it(meter, clock):
    meter.begin_serving()
    clock.now_s += 20
    with meter.live(delays=Delays(way_s=2.0, step_s=3.0, order_s=5.0, begin_s=4.0)):
        assert told(meter) == {TRANSPORT: 2.0, ENVIRONMENTS: 7.0, LEARNER: 5.0, OTHER: 6.0}


@pytest.mark.parametrize(
    ("idle_s", "expected"),
    [
        (0.5, {TRANSPORT: 0.5}),
        (2.0, {TRANSPORT: 1.0, ENVIRONMENTS: 1.0}),
        (8.0, {TRANSPORT: 1.0, ENVIRONMENTS: 4.0, LEARNER: 3.0}),
        (11.0, {TRANSPORT: 1.0, ENVIRONMENTS: 5.0, LEARNER: 5.0}),
    ],
)
def test_what_passed_while_the_engine_was_busy_is_no_cause(idle_s, expected, meter, clock):
    meter.begin_serving()
    with meter.live():
        clock.now_s += 100
    clock.now_s += idle_s
    with meter.live(delays=Delays(way_s=2.0, step_s=3.0, order_s=5.0, begin_s=4.0)):
        assert told(meter) == expected


def test_an_idle_time_going_on_has_no_cause_yet(meter, clock):
    meter.begin_serving()
    clock.now_s += 5
    assert told(meter) == {}
    with meter.live():
        clock.now_s += 1
        with meter.live(delays=Delays(order_s=50.0)):  # it finds the engine busy
            clock.now_s += 1
    clock.now_s += 5
    assert told(meter) == {OTHER: 5.0}


def test_a_publication_is_the_cause_where_slots_wait_for_it(meter, clock):
    meter.begin_serving()
    with meter.live():
        clock.now_s += 1
    clock.now_s += 10  # the update
    with meter.held_up(PUBLISHING):
        clock.now_s += 2
        with meter.held_up(WAKING):  # begun later: the first names the cause
            clock.now_s += 1
    clock.now_s += 1
    with meter.held_up(WAKING):
        clock.now_s += 4
    clock.now_s += 2  # an environment is reset
    with meter.live(delays=Delays(order_s=100.0, begin_s=2.0)):
        assert told(meter) == {ENVIRONMENTS: 2.0, WAKING: 4.0, PUBLISHING: 3.0, LEARNER: 11.0}


def test_a_publication_beside_slow_environments_is_not_the_cause(meter, clock):
    meter.begin_serving()
    with meter.held_up(PUBLISHING):
        clock.now_s += 2
        with meter.live(delays=Delays(begin_s=50.0)):
            clock.now_s += 3
        clock.now_s += 4
        with meter.live(delays=Delays(begin_s=1.0)):  # of which nothing is known before
            clock.now_s += 3
    assert told(meter) == {ENVIRONMENTS: 3.0, PUBLISHING: 3.0}


def test_publications_while_the_engine_is_busy_are_forgotten(meter, clock):
    meter.begin_serving()
    with meter.live():
        for _ in range(100):
            with meter.held_up(PUBLISHING):
                clock.now_s += 1
    clock.now_s += 3
    with meter.live():
        assert told(meter) == {OTHER: 3.0}
        assert len(meter._held_up) <= 1


def test_causes_add_up_to_the_time_without_a_request_whatever_happens(meter, clock):
    rng = random.Random(0)
    meter.begin_serving()
    for _ in range(500):
        clock.now_s += rng.expovariate(1)
        if rng.random() < 0.3:
            with meter.held_up(rng.choice((PUBLISHING, WAKING))):
                clock.now_s += rng.expovariate(1)
        clock.now_s += rng.choice((0.0, rng.expovariate(1)))
        with meter.live(delays=Delays(*(rng.choice((0.0, rng.expovariate(2))) for _ in range(4)))):
            clock.now_s += rng.expovariate(1)
            if rng.random() < 0.3:
                with meter.held_up(PUBLISHING), meter.live(2):
                    clock.now_s += rng.expovariate(1)
        assert sum(meter.idle_s.values()) + meter.busy_s == pytest.approx(meter.serving_s)
    assert set(meter.idle_s) == set(CAUSES) and min(meter.idle_s.values()) > 0.0
