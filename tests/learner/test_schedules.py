import pytest

from learner.schedules import learning_rate_factor, progress, warmup_factor


def factor(schedule, index, warmup=2, total=10, final=0.0):
    return learning_rate_factor(schedule, index, warmup=warmup, total=total, final=final)


def test_warmup_rises_to_one():
    assert [warmup_factor(i, 3) for i in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warmup_factor(0, 0) == 1.0


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_starts_with_the_warmup_and_then_holds_the_full_rate(schedule):
    assert [factor(schedule, i) for i in (0, 1)] == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert factor(schedule, 2) == 1.0


def test_a_constant_rate_stays():
    assert factor("constant", 10**6) == 1.0


@pytest.mark.parametrize(("schedule", "middle"), [("linear", 0.5), ("cosine", 0.5)])
def test_schedules_arrive_and_stay(schedule, middle):
    assert factor(schedule, 6) == pytest.approx(middle)
    assert factor(schedule, 6, final=0.2) == pytest.approx(0.2 + 0.8 * middle)
    for index in (10, 11, 18, 1000):  # a cosine that went on would be back at 1 at 18
        assert factor(schedule, index) == pytest.approx(0.0)
        assert factor(schedule, index, final=0.2) == pytest.approx(0.2)


def test_the_cosine_is_flat_at_both_ends():
    assert progress("cosine", 1, 100) < 0.1 * progress("linear", 1, 100)
    assert 1 - progress("cosine", 99, 100) < 0.1 * (1 - progress("linear", 99, 100))
    assert progress("cosine", 25, 100) == pytest.approx(0.14644661)
