import os
import signal
import time

import pytest

from envs.alfworld import processes
from envs.alfworld.errors import GenerationError
from envs.alfworld.processes import each_in_processes, usual_processes


def square(number):
    return number * number, os.getpid()


def fail_at_two(number):
    if number == 2:
        raise ValueError("two")
    return number


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(number):
    time.sleep(2)


def test_one_process_is_this_one():
    assert list(each_in_processes(square, [1, 2, 3], workers=1)) == [(n * n, os.getpid()) for n in (1, 2, 3)]


def test_results_come_in_order_from_other_processes():
    results = list(each_in_processes(square, range(8), workers=2))
    assert [result for result, _ in results] == [n * n for n in range(8)]
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_home(workers):
    results = each_in_processes(fail_at_two, range(4), workers)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_a_dead_process_is_named():
    with pytest.raises(GenerationError, match="one of 2 processes died"):
        list(each_in_processes(die, range(2), workers=2))


def test_waiting_has_an_end(monkeypatch):
    monkeypatch.setattr(processes, "_ITEM_DEADLINE_S", 0.01)
    with pytest.raises(GenerationError, match=r"waited 0\.01 s for one of 2 processes"):
        list(each_in_processes(sleep, range(2), workers=2))


def test_no_more_processes_than_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert usual_processes() == processes.MOST_PROCESSES
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert usual_processes() == 1
