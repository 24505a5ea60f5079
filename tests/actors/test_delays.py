"""What a request tells is laid out backwards from its arrival."""

import pickle

from actors.delays import CAUSES, ENVIRONMENTS, LEARNER, TRANSPORT, UNTOLD, Delays


def test_the_last_thing_that_passed_comes_first():
    told = Delays(way_s=4.0, step_s=3.0, order_s=5.0, begin_s=1.0).backwards()
    assert told == ((TRANSPORT, 2.0), (ENVIRONMENTS, 1.0), (LEARNER, 5.0), (ENVIRONMENTS, 3.0), (TRANSPORT, 2.0))
    assert {cause for cause, _ in told} < set(CAUSES)


def test_who_tells_nothing_was_held_up_by_nothing():
    assert sum(seconds for _, seconds in UNTOLD.backwards()) == 0.0


def test_delays_travel_as_a_few_bytes():
    delays = Delays(0.1, 0.2, 0.3, 0.4)
    assert pickle.loads(pickle.dumps(delays)) == delays
    assert len(pickle.dumps(delays, 5)) < 100


def test_a_request_that_left_late_was_kept_by_environments():
    told = Delays(way_s=4.0, begin_s=1.0)
    assert told.kept(2.0) == Delays(way_s=4.0, begin_s=3.0)
    assert told == Delays(way_s=4.0, begin_s=1.0)
