"""Which server gets a batch, and how many requests each may hold: bookkeeping on literal sequences."""

import pytest

from cluster.servers import routing
from cluster.servers.routing import AFFINITY_MARGIN, CAP_STEP, CROWDED, FIRST_CAP, LEAST_CAP, Router


def fill(router: Router, index: int, size: int) -> None:
    """Book requests at one server."""
    router.lanes[index].in_flight += size


def test_batches_go_to_the_server_that_owes_least():
    router = Router(3)
    assert [router.place(size, prefix) for prefix, size in enumerate((9, 1, 2, 2, 1))] == [0, 1, 2, 1, 2]
    assert [lane.in_flight for lane in router.lanes] == [9, 3, 3]
    router.release(0, 9)
    assert router.place(1, "new") == 0


def test_a_server_that_failed_is_left_out_although_it_owes_least():
    router = Router(2)
    fill(router, 1, 7)
    assert router.place(1, "a", avoided={0}) == 1
    assert router.place(1, "b") == 0


@pytest.mark.parametrize(("ahead", "expected"), [(0, 0), (AFFINITY_MARGIN, 0), (AFFINITY_MARGIN + 1, 1)])
def test_what_begins_alike_goes_to_the_same_server_unless_that_is_busier_by_more_than_the_margin(ahead, expected):
    router = Router(2)
    assert router.place(1, "a") == 0
    router.release(0, 1)
    fill(router, 0, ahead)
    assert router.place(1, "a") == expected
    if expected:
        assert router.place(1, "a") == expected, "the server that saw it last is the other one now"


def test_affinity_leads_neither_to_a_failed_nor_to_a_full_server():
    router = Router(2)
    assert router.place(1, "a") == 0
    assert router.place(1, "a", avoided=[0]) == 1
    fill(router, 1, FIRST_CAP - 1)
    fill(router, 0, FIRST_CAP - 2)
    assert router.place(1, "a") == 0


def test_the_memory_of_prefixes_is_bounded_and_loses_the_longest_unused(monkeypatch):
    monkeypatch.setattr(routing, "REMEMBERED_PREFIXES", 2)
    router = Router(2)
    fill(router, 0, 1)
    for prefix in ("old", "used", "used", "new"):
        assert router.place(0, prefix) == 1
    fill(router, 1, 2)
    assert [router.place(0, prefix) for prefix in ("used", "new", "old")] == [1, 1, 0]


def test_a_full_cap_delays():
    router = Router(2)
    for index in (0, 1):
        fill(router, index, FIRST_CAP)
    assert router.place(1, "a") is None
    assert [lane.in_flight for lane in router.lanes] == [FIRST_CAP] * 2, "nothing was booked"
    router.release(1, 1)
    assert router.place(1, "a") == 1


def test_a_batch_larger_than_the_cap_goes_to_a_server_that_owes_nothing():
    router = Router(1)
    fill(router, 0, 1)
    assert router.place(FIRST_CAP, "a") is None
    router.release(0, 1)
    assert router.place(FIRST_CAP + 9, "a") == 0


def test_the_cap_grows_only_when_it_held_something_back_and_little_queues():
    router = Router(1)
    lane = router.lanes[0]
    router.hear(0, 0.0)
    assert lane.cap == FIRST_CAP, "unused room is no reason for more"
    fill(router, 0, FIRST_CAP)
    assert router.place(1, "a") is None
    router.hear(0, CROWDED)
    assert lane.cap == FIRST_CAP + CAP_STEP
    assert router.place(CAP_STEP, "a") == 0
    assert router.place(1, "a") is None
    router.hear(0, 0.0)
    assert lane.cap == FIRST_CAP + CAP_STEP, "the first increase has shown nothing yet"
    router.release(0, FIRST_CAP + CAP_STEP)
    router.hear(0, 0.0)
    assert lane.cap == FIRST_CAP + 2 * CAP_STEP


def test_the_cap_shrinks_once_per_turnover_and_not_below_its_floor():
    router = Router(1)
    lane = router.lanes[0]
    fill(router, 0, 40)
    router.hear(0, CROWDED + 0.01)
    assert lane.cap == 30, "three quarters of what is out, not of an unused cap"
    router.release(0, 29)
    router.hear(0, 9.0)
    assert lane.cap == 30, "the engine's queue cannot show the first decrease yet"
    router.release(0, 1)
    fill(router, 0, 20)
    router.hear(0, 9.0)
    assert lane.cap == 22
    for _ in range(9):
        router.release(0, 22)
        fill(router, 0, 22)
        router.hear(0, 9.0)
    assert lane.cap == LEAST_CAP
    router.release(0, lane.in_flight)
    assert router.place(LEAST_CAP, "a") == 0


def test_clients_of_a_crowded_server_come_to_hold_together_what_it_can_work_on():
    """Eight clients of 64 slots each, one engine that holds 64 and answers one of its requests after the other."""
    capacity, clients = 64, [Router(1) for _ in range(8)]
    queue: list[int] = []
    totals = []
    for _ in range(4000):
        for number, client in enumerate(clients):
            while client.lanes[0].in_flight < 64 and client.place(1, "a") is not None:
                queue.append(number)
        owner = queue.pop(0)
        clients[owner].release(0, 1)
        clients[owner].hear(0, max(0, len(queue) - capacity) / capacity)
        totals.append(len(queue))
    assert totals[0] == 8 * 64 - 1
    settled = totals[2000:]
    assert min(settled) >= 0.9 * capacity, "the engine stays full"
    assert max(settled) <= 1.5 * capacity, "and little queues before it"


def test_a_router_without_servers_is_refused():
    with pytest.raises(ValueError, match="at least one server, got 0"):
        Router(0)
