"""Which policy versions a server holds, who uses them, and when their slot is free again.

Pure bookkeeping for one event loop: no engine and no files in here. A version is LOADING until its canary has passed,
LIVE while requests may name it, RETIRING while its last requests finish, and then gone for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from actors.engine import AdapterHandle
from protocol.adapter import AdapterManifest
from protocol.errors import AdapterRejected, DeadlineExceeded, RequestRefused, UnknownPolicyVersion


class SlotState(Enum):
    """Life of a version on a server."""

    LOADING = "loading"
    LIVE = "live"
    RETIRING = "retiring"


@dataclass(slots=True, eq=False)
class _Slot:
    handle: AdapterHandle
    state: SlotState = SlotState.LOADING
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class AdapterSlots:
    """At most `capacity` versions at once; version numbers only grow, and one number never means two adapters."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._slots: dict[int, _Slot] = {}
        self._digests: dict[int, bytes] = {}
        self._live_versions_seen: set[int] = set()

    @property
    def current(self) -> int | None:
        """Newest live version."""
        return max(self.live, default=None)

    @property
    def live(self) -> list[int]:
        """Versions that requests may name, ascending."""
        return sorted(v for v, slot in self._slots.items() if slot.state is SlotState.LIVE)

    @property
    def is_full(self) -> bool:
        """Whether every slot is taken, by versions in whatever state."""
        return len(self._slots) >= self.capacity

    def check_new(self, manifest: AdapterManifest) -> AdapterHandle | None:
        """Checks a manifest against what was seen before; the live handle when it is a harmless repetition.

        A version that was rejected may be tried again with the same bytes, never with others: engines key caches by
        the adapter's name.

        Raises:
            AdapterRejected: the number was used for other bytes, is retired, or does not grow.
        """
        version = manifest.policy_version
        seen = self._digests.get(version)
        if seen is not None and seen != manifest.digest:
            raise AdapterRejected(
                f"policy version {version} was sent before with digest {seen.hex()[:16]}..., now with "
                f"{manifest.digest.hex()[:16]}....",
                "publish other weights under a new version",
            )
        slot = self._slots.get(version)
        if slot is not None and slot.state is SlotState.LIVE:
            return slot.handle
        newest = max(self._live_versions_seen, default=-1)
        if version <= newest:
            raise AdapterRejected(
                f"policy version {version} is not newer than version {newest}, which this server already served.",
                "policy versions only grow",
            )
        return None

    def add(self, handle: AdapterHandle) -> None:
        """Takes a slot for a version that is being loaded.

        Raises:
            AdapterRejected: every slot is taken.
        """
        if self.is_full:
            raise AdapterRejected(
                f"all {self.capacity} adapter slots are taken by versions {sorted(self._slots)}.",
                "retire a version, or raise adapter_slots to max_staleness + 2",
            )
        self._digests[handle.policy_version] = handle.digest
        self._slots[handle.policy_version] = _Slot(handle)

    def commit(self, version: int) -> None:
        """Lets requests name the version: its canary has passed."""
        self._slots[version].state = SlotState.LIVE
        self._live_versions_seen.add(version)

    def oldest_spare(self) -> int | None:
        """The oldest live version that is not current."""
        live = self.live
        return live[0] if len(live) > 1 else None

    @contextmanager
    def lease(self, version: int) -> Iterator[AdapterHandle]:
        """Holds a live version for one request: it stays loaded until the block ends.

        Raises:
            UnknownPolicyVersion: the version is not live here.
        """
        slot = self._slots.get(version)
        if slot is None or slot.state is not SlotState.LIVE:
            was = "is retired" if version in self._live_versions_seen else "was never published here"
            raise UnknownPolicyVersion(
                f"policy version {version} {was}; live versions: {self.live or 'none'}.",
                "sample under a live version",
            )
        slot.users += 1
        slot.idle.clear()
        try:
            yield slot.handle
        finally:
            slot.users -= 1
            if not slot.users:
                slot.idle.set()

    def retire(self, version: int) -> AdapterHandle | None:
        """Refuses new requests for a version; None when it is gone already.

        Raises:
            RequestRefused: it is the current version.
            UnknownPolicyVersion: it was never live here.
        """
        slot = self._slots.get(version)
        if slot is None or slot.state is SlotState.LOADING:
            if version in self._live_versions_seen:
                return None
            raise UnknownPolicyVersion(f"policy version {version} was never published here.")
        if version == self.current:
            raise RequestRefused(
                f"policy version {version} is current and cannot be retired.", "publish a newer version first"
            )
        slot.state = SlotState.RETIRING
        return slot.handle

    async def wait_idle(self, version: int, timeout_s: float) -> None:
        """Waits until no request uses the version.

        Raises:
            DeadlineExceeded: naming the version and the requests that are left.
        """
        slot = self._slots[version]
        if not slot.users:
            return
        try:
            await asyncio.wait_for(slot.idle.wait(), timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"waited {timeout_s:g} s for {slot.users} requests of policy version {version} to finish."
            ) from error

    def free(self, version: int) -> None:
        """Gives the slot back. The version's number stays used."""
        del self._slots[version]

    def snapshot(self) -> dict[int, dict[str, int | str]]:
        """State and number of users per version, for status reports."""
        return {
            v: {"state": slot.state.value, "users": slot.users, "digest": slot.handle.digest.hex()}
            for v, slot in sorted(self._slots.items())
        }
