"""Waiting for Ray: results in order, the first failure at once and unwrapped, a deadline that names its subject."""

import time
from collections.abc import Iterator

import pytest
import ray
from ray.exceptions import RayTaskError

from cluster.config import RayConfig
from cluster.runtime.ray_session import ray_session
from cluster.runtime.waiting import StopFlag, StopRequested, get, wait_for
from protocol.errors import AdapterRejected, DeadlineExceeded

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@ray.remote(num_cpus=0)
def after(wait_s: float, value: object) -> object:
    time.sleep(wait_s)
    if isinstance(value, Exception):
        raise value
    return value


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with ray_session(RayConfig(address="local"), logical_cpus=2):
        ray.get([after.remote(0, i) for i in range(4)], timeout=60)  # later waits find their processes there
        yield


def test_results_come_in_the_order_of_the_calls():
    looks = []
    results = wait_for(
        [after.remote(0.6, "late"), after.remote(0, "early")], "two", 30, meanwhile=lambda: looks.append(1)
    )
    assert results == ["late", "early"] and len(looks) >= 2
    assert wait_for([], "nothing", 1) == []


def test_the_first_failure_is_raised_at_once_without_rays_wrapper():
    began = time.monotonic()
    with pytest.raises(AdapterRejected) as caught:
        wait_for([after.remote(20, "late"), after.remote(0, AdapterRejected("no", "cure"))], "two", 30)
    assert time.monotonic() - began < 10
    assert type(caught.value) is AdapterRejected and caught.value.cure == "cure"
    with pytest.raises(RayTaskError, match="ZeroDivisionError"):
        get(after.remote(0, ZeroDivisionError()), "a bug")


def test_the_deadline_names_what_was_waited_for():
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"Waited 0.5 s for the moon; 1 of 2 call\(s\)"):
        wait_for([after.remote(20, 1), after.remote(0, 2)], "the moon", 0.5)
    with pytest.raises(DeadlineExceeded, match=r"Waited 0.1 s for the sun"):
        get(after.remote(20, 1), "the sun", 0.1)
    assert time.monotonic() - began < 10


def test_a_wish_to_stop_breaks_a_wait_off_but_not_a_finished_one():
    stop = StopFlag()
    stop.set()
    done = after.remote(0, "there")
    ray.wait([done], timeout=30)
    assert wait_for([done], "what is there", 10, stop=stop) == ["there"]
    with pytest.raises(StopRequested):
        wait_for([after.remote(20, 1)], "the moon", 30, stop=stop)
