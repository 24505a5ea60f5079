"""A slot's diary on a clock that the test sets."""

import random

import pytest

from actors.delays import Delays
from actors.diary import BREATH_S, REMEMBERED_WORK, Diary, WorkLog
from tests.actors.test_meter import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work() -> WorkLog:
    return WorkLog()


@pytest.fixture
def diary(clock: Clock, work: WorkLog) -> Diary:
    return Diary(work, clock)


def ask(diary: Diary, clock: Clock, takes_s: float, sample_s: float) -> None:
    """A request is made, and answered after so long."""
    diary.sent()
    clock.now_s += takes_s
    diary.answered(takes_s, sample_s)


def test_a_slot_that_plays_on_tells_its_work_and_its_last_way(diary, clock):
    ask(diary, clock, takes_s=10.0, sample_s=8.0)
    clock.now_s += 3  # steps
    assert diary.sent() == Delays(way_s=2.0, step_s=0.0, order_s=0.0, begin_s=3.0)


def test_work_before_and_after_a_wait_for_leave_is_kept_apart(diary, clock):
    ask(diary, clock, takes_s=10.0, sample_s=9.0)
    clock.now_s += 1  # steps
    diary.end()
    clock.now_s += 20  # the learner's turn
    diary.begin()
    clock.now_s += 4  # begins an episode
    assert diary.sent() == Delays(way_s=1.0, step_s=1.0, order_s=20.0, begin_s=4.0)


def test_before_its_first_leave_a_slot_waits_for_it(diary, clock):
    clock.now_s += 7
    diary.begin()
    clock.now_s += 1
    assert diary.sent() == Delays(order_s=7.0, begin_s=1.0)


def test_leave_that_nothing_is_made_of_is_part_of_the_wait(diary, clock):
    ask(diary, clock, takes_s=1.0, sample_s=1.0)
    clock.now_s += 1
    diary.end()
    for _ in range(2):
        clock.now_s += 10
        diary.begin()
        clock.now_s += 1
        diary.end()
    clock.now_s += 10
    diary.begin()
    assert diary.sent() == Delays(step_s=1.0, order_s=32.0)


def test_a_request_that_was_never_answered_leaves_nothing_behind(diary, clock):
    ask(diary, clock, takes_s=5.0, sample_s=1.0)
    clock.now_s += 2
    diary.sent()
    clock.now_s += 50  # fails
    diary.end()
    clock.now_s += 1
    diary.begin()
    told = diary.sent()
    assert (told.way_s, told.order_s) == (0.0, 1.0)


def test_an_answer_that_waits_for_other_environments_is_not_late(clock, work):
    """Its way took 6 s, in 5 of which another slot stepped its environment."""
    slow, diary = Diary(work, clock), Diary(work, clock)
    diary.sent()
    clock.now_s += 1
    slow.answered(0.0, 0.0)
    clock.now_s += 1
    slow.sent()  # while the request was sampled: in nobody's way
    clock.now_s += 3
    slow.answered(0.0, 0.0)
    clock.now_s += 5
    slow.sent()
    diary.answered(waited_s=10.0, sample_s=4.0)
    assert diary.sent() == Delays(way_s=1.0, step_s=5.0)


def test_a_request_that_other_environments_keep_from_leaving_is_not_slow(clock, work):
    other, diary = Diary(work, clock), Diary(work, clock)
    diary.sent()
    for number in range(3):  # two steps in a row, and one when it has left
        other.answered(0.0, 0.0)
        clock.now_s += 1
        other.sent()
        clock.now_s += 0.001 if number == 0 else 2
    clock.now_s += 10
    diary.answered(waited_s=clock.now_s - 100.0, sample_s=14.0)
    told = diary.sent()
    assert (told.step_s, told.way_s) == pytest.approx((2.0, clock.now_s - 116.0))


def test_waiting_for_leave_while_others_step_is_waiting_for_environments(clock, work):
    other, diary = Diary(work, clock), Diary(work, clock)
    diary.answered(0.0, 0.0)
    clock.now_s += 1
    diary.end()
    other.answered(0.0, 0.0)
    clock.now_s += 4
    other.end()
    clock.now_s += 20
    diary.begin()
    assert diary.sent() == Delays(step_s=5.0, order_s=20.0)


def test_an_answer_is_never_early(diary, clock):
    ask(diary, clock, takes_s=1.0, sample_s=2.0)
    assert diary.sent() == Delays()


def test_work_is_counted_once_however_often_it_is_told(work):
    assert work.since(0.0) == work.following(0.0) == 0.0
    work.add(0.0, 2.0)
    work.add(0.0, 2.0)
    work.add(1.0, 3.0)
    work.add(5.0, 6.0)
    assert [work.since(moment) for moment in (-1.0, 1.0, 2.5, 4.0, 5.5, 6.0)] == [4.0, 3.0, 1.5, 1.0, 0.5, 0.0]
    assert [work.following(moment) for moment in (-1.0, 0.0, 2.5, 4.0, 5.0, 6.0)] == [0.0, 3.0, 0.5, 0.0, 1.0, 0.0]


def test_a_breath_is_no_rest(work):
    work.add(0.0, 1.0)
    work.add(1.0 + BREATH_S / 2, 2.0)
    work.add(2.0 + 2 * BREATH_S, 3.0)
    assert work.following(0.0) == pytest.approx(2.0 - BREATH_S / 2)
    assert work.following(2.0) == 0.0


def test_the_log_of_work_agrees_with_a_list_of_everything(work):
    rng, stretches, now_s = random.Random(0), [], 0.0
    for number in range(6 * REMEMBERED_WORK):
        began_s = now_s + rng.choice((0.0, 0.001, 0.5))
        now_s = began_s + rng.random()
        stretches.append((began_s, now_s))
        work.add(began_s, now_s)
        assert len(work._ends) < 2 * REMEMBERED_WORK
        if number % 100 == 0:
            moment = now_s - 50 * rng.random()
            assert work.since(moment) == pytest.approx(
                sum(end - max(begin, moment) for begin, end in stretches[-200:] if end > moment)
            )
            assert 0.0 <= work.following(moment) <= work.since(moment) + 1e-9
