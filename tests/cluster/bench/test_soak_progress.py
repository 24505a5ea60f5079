"""Updates are noted with their time; steps and paces follow from them."""

import io
import math

import pytest
from rich.console import Console

from cluster.bench.soak_progress import ENDLESS, SoakProgress, Update, paces, steps_at


class FakeTime:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def values(steps=512.0, took_s=2.0, engines=0.1):
    return {
        "time/iteration_s": took_s,
        "rollout/env_steps": steps,
        "rollout/sampled_tokens": 10 * steps,
        "idle/engines": engines,
        "idle/workers": 0.2,
        "idle/learner": 0.3,
        "run/env_steps": 1024.0,
        "run/server_restarts": 0.0,
        "run/lost_rollouts": 1.0,
        "run/recycled_workers": 2.0,
    }


def update(ended_s, took_s=2.0, engines=0.1):
    return Update(ended_s, took_s, 512, 5120, {"engines": engines, "learner": 0.3}, 0)


def progress(length_s=100.0):
    time, out = FakeTime(), io.StringIO()
    return SoakProgress(Console(file=out, width=100), length_s, time), time, out


def test_the_clock_begins_with_the_end_of_the_first_update():
    heard, time, _ = progress()
    assert heard.running_s is None
    heard.row(1, ENDLESS, values())
    time.now += 2.5
    heard.row(2, ENDLESS, values())
    assert heard.running_s == 2.5
    (only,) = heard.updates
    assert only == Update(2.5, 2.0, 512, 5120, {"engines": 0.1, "workers": 0.2, "learner": 0.3}, 3)


def test_some_twenty_lines_are_printed_over_a_run():
    heard, time, out = progress(length_s=100.0)
    for number in range(201):
        heard.row(number, ENDLESS, values())
        time.now += 0.5
    lines = out.getvalue().splitlines()
    assert 19 <= len(lines) <= 21 and lines[1].split() == "0.1 of 1.66667 min: update 10, 1,024 steps".split()


def test_an_endless_run_shows_no_bar(monkeypatch):
    heard, _, out = progress()
    with heard.phase("reinforcement learning", total=ENDLESS) as phase:
        phase.update(3, "sampling")
    assert "reinforcement learning" in out.getvalue() and str(ENDLESS) not in out.getvalue()


def test_a_run_is_over_when_its_time_is_and_an_update_is_not_long_ago():
    heard, time, _ = progress(length_s=10.0)
    heard.row(1, ENDLESS, values())
    assert not heard.is_over(10.0), "nothing has been counted"
    time.now += 4
    heard.row(2, ENDLESS, values())
    assert not heard.is_over(7.0), "too early"
    assert not heard.is_over(10.0), "nothing happened in the second half"
    time.now += 7
    heard.row(3, ENDLESS, values())
    assert heard.is_over(11.0)


def test_steps_between_updates():
    assert steps_at([update(2.0), update(6.0)], [0, 1, 2, 4, 9]) == [0, 256, 512, 768, 1024]


def test_paces_are_weighed_by_time_and_by_tenth():
    found = paces(
        [update(1.0), update(9.0, took_s=6.0, engines=0.5), update(50.0, engines=math.nan), update(100.0)], 100
    )
    assert list(found) == [0, 5, 9]
    assert found[0].steps_per_s == 1024 / 8 and found[0].tokens_per_s == 10240 / 8
    assert found[0].idle == pytest.approx({"engines": 0.4, "learner": 0.3})
    assert math.isnan(found[5].idle["engines"]) and found[5].idle["learner"] == pytest.approx(0.3)
