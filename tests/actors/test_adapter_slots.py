import asyncio
from pathlib import Path

import pytest

from actors.adapter_slots import AdapterSlots
from actors.engine import AdapterHandle
from protocol.adapter import AdapterManifest
from protocol.errors import AdapterRejected, DeadlineExceeded, RequestRefused, UnknownPolicyVersion


def digest(version: int) -> bytes:
    return bytes([version]) * 32


def manifest(version: int, digest_bytes: bytes | None = None) -> AdapterManifest:
    return AdapterManifest(version, digest_bytes or digest(version), 8, 16.0, (), 0)


def handle(version: int) -> AdapterHandle:
    return AdapterHandle(version, digest(version), Path(f"/nowhere/v{version}"))


def with_live(capacity: int, *versions: int) -> AdapterSlots:
    slots = AdapterSlots(capacity)
    for version in versions:
        assert slots.check_new(manifest(version)) is None
        slots.add(handle(version))
        slots.commit(version)
    return slots


def test_a_version_is_served_only_once_it_is_committed():
    slots = AdapterSlots(2)
    slots.add(handle(1))
    assert slots.current is None
    with pytest.raises(UnknownPolicyVersion, match="never published"), slots.lease(1):
        pass
    slots.commit(1)
    assert (slots.current, slots.live) == (1, [1])
    with slots.lease(1) as leased:
        assert leased == handle(1)


def test_the_newest_live_version_is_current_and_older_ones_still_serve():
    slots = with_live(3, 1, 2, 3)
    assert slots.current == 3
    with slots.lease(1), slots.lease(2):
        pass


def test_the_same_bytes_again_are_harmless():
    slots = with_live(2, 1)
    assert slots.check_new(manifest(1)) == handle(1)


def test_other_bytes_under_a_used_number_are_rejected():
    slots = with_live(2, 1)
    with pytest.raises(AdapterRejected, match="publish other weights under a new version"):
        slots.check_new(manifest(1, digest(9)))


def test_a_refused_version_may_come_again_with_the_same_bytes_only():
    slots = AdapterSlots(2)
    slots.add(handle(1))
    slots.free(1)
    assert slots.check_new(manifest(1)) is None
    with pytest.raises(AdapterRejected, match="was sent before with digest"):
        slots.check_new(manifest(1, digest(9)))


def test_versions_only_grow():
    slots = with_live(3, 5)
    with pytest.raises(AdapterRejected, match="4 is not newer than version 5"):
        slots.check_new(manifest(4))
    slots.add(handle(6))
    slots.commit(6)
    slots.retire(5)
    slots.free(5)
    with pytest.raises(AdapterRejected, match="5 is not newer than version 6"):
        slots.check_new(manifest(5))


def test_slots_are_counted_in_every_state():
    slots = with_live(2, 1)
    slots.add(handle(2))
    assert slots.is_full
    with pytest.raises(AdapterRejected, match=r"all 2 adapter slots are taken by versions \[1, 2\]"):
        slots.add(handle(3))
    slots.commit(2)
    slots.retire(1)
    assert slots.is_full
    slots.free(1)
    slots.add(handle(3))


def test_the_current_version_cannot_be_retired_and_is_never_spare():
    slots = with_live(2, 1)
    assert slots.oldest_spare() is None
    with pytest.raises(RequestRefused, match="is current"):
        slots.retire(1)


def test_retiring_refuses_new_requests_and_keeps_the_number_used():
    slots = with_live(3, 1, 2)
    assert slots.oldest_spare() == 1
    assert slots.retire(1) == handle(1)
    with pytest.raises(UnknownPolicyVersion, match=r"1 is retired; live versions: \[2\]"), slots.lease(1):
        pass
    slots.free(1)
    assert slots.retire(1) is None


def test_what_was_never_published_cannot_be_retired():
    with pytest.raises(UnknownPolicyVersion, match="7 was never published"):
        with_live(2, 1).retire(7)


async def test_retirement_waits_for_the_last_request():
    slots = with_live(3, 1, 2)
    first, second = slots.lease(1), slots.lease(1)
    first.__enter__()
    second.__enter__()
    slots.retire(1)
    waiting = asyncio.create_task(slots.wait_idle(1, timeout_s=5))
    await asyncio.sleep(0.01)
    first.__exit__(None, None, None)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    second.__exit__(None, None, None)
    await waiting


async def test_a_wait_for_a_stuck_request_names_what_it_waited_for():
    slots = with_live(3, 1, 2)
    with slots.lease(1):
        with pytest.raises(DeadlineExceeded, match="0.01 s for 1 requests of policy version 1"):
            await slots.wait_idle(1, timeout_s=0.01)


async def test_an_idle_version_is_not_waited_for():
    await with_live(2, 1).wait_idle(1, timeout_s=0.0)


def test_a_request_that_fails_gives_its_lease_back():
    slots = with_live(2, 1)
    with pytest.raises(ZeroDivisionError), slots.lease(1):
        raise ZeroDivisionError
    assert slots.snapshot()[1]["users"] == 0
