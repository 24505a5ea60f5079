"""Contenders take turns; time is summed over spans."""

import pytest

from cluster.bench import timing
from cluster.bench.timing import Stopwatch, column, interleave


def test_contenders_take_turns_after_a_round_that_does_not_count():
    ran, ticks = [], []

    def contender(name):
        return lambda number: ran.append((name, number)) or f"{name}{len(ran)}"

    results = interleave({"a": contender("a"), "b": contender("b")}, 2, ticks.append)
    assert ran == [("a", 2), ("b", 2), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert results == {"a": ["a3", "a5"], "b": ["b4", "b6"]}
    assert ticks == [1, 2, 3]


def test_a_stopwatch_adds_spans_up(monkeypatch):
    times = iter([1.0, 1.5, 10.0, 12.0])
    monkeypatch.setattr(timing, "clock", lambda: next(times))
    watch = Stopwatch()
    for _ in range(2):
        with watch:
            pass
    assert (watch.total_s, watch.spans, watch.mean_s) == (2.5, 2, 1.25)


def test_a_span_that_raises_is_counted_and_the_error_goes_on():
    watch = Stopwatch()
    with pytest.raises(KeyError), watch:
        raise KeyError
    assert watch.spans == 1


def test_the_mean_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing was timed"):
        _ = Stopwatch().mean_s


def test_a_column_of_results():
    assert column([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}], "b") == [2.0, 4.0]
