import json
import random

import pytest

from learner.moving_average import MovingAverages


def slow_average(values, smoothing):
    """The weighted mean with weights s^age, written out."""
    weights = [smoothing ** (len(values) - 1 - i) for i in range(len(values))]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 0.99])
def test_equal_to_the_weighted_mean(smoothing):
    averages, values, draw = MovingAverages(smoothing), [], random.Random(0)
    assert averages.value("a") is None
    for _ in range(20):
        values.append(draw.uniform(-3, 5))
        averages.add("a", values[-1])
        assert averages.value("a") == pytest.approx(slow_average(values, smoothing))


def test_names_do_not_mix_and_the_state_reads_back_bit_for_bit():
    first, draw = MovingAverages(0.9), random.Random(1)
    for _ in range(50):
        first.add(draw.choice("ab"), draw.random())
    second = MovingAverages(0.9)
    second.load_state(json.loads(json.dumps(first.state())))
    for name in "ab":
        assert second.value(name) == first.value(name)
    assert first.value("a") != first.value("b")
    first.add("a", 2.0)
    second.add("a", 2.0)
    assert second.state() == first.state()
