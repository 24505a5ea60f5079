"""A process of one's own: new, prepared, with deadlines, and gone afterwards."""

import multiprocessing
import os

import psutil
import pytest

from cluster.bench.fresh_process import FreshProcess, ProbeDied
from protocol.errors import ConfigError, DeadlineExceeded
from tests.cluster.bench import probes

DEADLINE_S = 60.0


def test_it_is_new_prepared_and_gone_afterwards():
    before = set(multiprocessing.active_children())
    with FreshProcess(probes.prepare) as process:
        (pid,) = process.call(DEADLINE_S, probes.prepared)
        assert pid != os.getpid() and psutil.pid_exists(pid)
        assert probes.PREPARED == []
        assert process.call(DEADLINE_S, probes.add, 2, 3) == 5
    assert set(multiprocessing.active_children()) <= before
    assert not psutil.pid_exists(pid)


def test_an_error_comes_home_and_the_process_goes_on():
    with FreshProcess() as process:
        with pytest.raises(ConfigError, match="wrong. Cure: right"):
            process.call(DEADLINE_S, probes.refuse, ConfigError("wrong.", "right"))
        with pytest.raises(TimeoutError, match="its own"):
            process.call(DEADLINE_S, probes.refuse, TimeoutError("its own"))
        assert process.call(DEADLINE_S, probes.add, 1, 1) == 2


def test_a_deadline_names_what_was_waited_for_and_kills():
    with FreshProcess() as process, pytest.raises(DeadlineExceeded, match=r"0\.2 s for sleep"):
        process.call(0.2, probes.sleep)
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]


def test_a_death_is_told():
    with FreshProcess() as process, pytest.raises(ProbeDied, match="die to measure"):
        process.call(DEADLINE_S, probes.die)


def test_a_failed_preparation_is_told_when_it_starts():
    with pytest.raises(ProbeDied, match="the start"):
        FreshProcess(probes.fail_to_prepare).__enter__()
