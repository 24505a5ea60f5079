"""Which inference server gets a request, and how many each may hold at once. Pure bookkeeping, no waiting.

Least loaded: the server that owes this client the fewest answers. Prefix affinity: a request that begins like an
earlier one goes to the server that saw that one last, whose caches hold its prompt and image, unless that server is
busier than the least busy one by more than `AFFINITY_MARGIN` requests.

The cap is additive increase, multiplicative decrease, as in TCP: a server says with its answers how much queues
before its engine. While that is little, a cap that held something back grows by `CAP_STEP`; while it is much, the cap
shrinks to `CAP_SHRINK` of what is out. After a change it stays until as many answers came as it allows: so long it
takes until the engine's queue shows the effect. So the workers of a run, without knowing of each other, keep an
engine full and little before it; what queues, queues at them, where it can still go to another server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

AFFINITY_MARGIN = 4
"""How many requests more than the least busy server one may owe and still be preferred."""

REMEMBERED_PREFIXES = 4096
"""Beginnings of requests whose last server is known; the longest unused is forgotten first."""

CROWDED = 0.25
"""A server is crowded when more than this share of what its engine can hold waits before it."""

FIRST_CAP, LEAST_CAP, CAP_STEP, CAP_SHRINK = 256, 4, 4, 0.75
"""In requests to one server: cap at the start, its floor, its growth; and the factor of its decrease."""


@dataclass(slots=True)
class Lane:
    """One server, as seen by one client."""

    cap: int = FIRST_CAP
    """Requests that it may owe answers to."""
    in_flight: int = 0
    """Requests that it owes answers to."""
    held_back: bool = False
    """Whether the cap made a request wait since it last changed."""
    until_change: int = 0
    """Answers still to come before the cap may change again."""

    def has_room(self, size: int) -> bool:
        """Whether a batch fits under the cap; a batch larger than the cap fits a server that owes nothing."""
        return self.in_flight == 0 or self.in_flight + size <= self.cap


class Router:
    """Books what is in flight to each of `servers` servers, numbered from 0."""

    def __init__(self, servers: int) -> None:
        if servers < 1:
            raise ValueError(f"A sampler needs at least one server, got {servers}.")
        self.lanes = [Lane() for _ in range(servers)]
        self._last_server: OrderedDict[Hashable, int] = OrderedDict()

    def place(self, size: int, prefix: Hashable, avoided: Iterable[int] = ()) -> int | None:
        """Choose a server for a batch of `size` requests and book them there.

        Args:
            size: Requests that go together.
            prefix: Equal for batches that begin alike.
            avoided: Servers to leave out.

        Returns:
            The server, or None while every server that comes into question is full.
        """
        left_out = set(avoided)
        allowed = [index for index in range(len(self.lanes)) if index not in left_out]
        open_ = [index for index in allowed if self.lanes[index].has_room(size)]
        if not open_:
            for index in allowed:
                self.lanes[index].held_back = True
            return None
        chosen = min(open_, key=lambda index: self.lanes[index].in_flight)
        last = self._last_server.get(prefix)
        if last in open_ and self.lanes[last].in_flight <= self.lanes[chosen].in_flight + AFFINITY_MARGIN:
            chosen = last
        self._remember(prefix, chosen)
        self.lanes[chosen].in_flight += size
        return chosen

    def release(self, index: int, size: int) -> None:
        """A batch is answered, has failed, or nobody wants its answer any more."""
        lane = self.lanes[index]
        lane.in_flight -= size
        lane.until_change -= size

    def hear(self, index: int, crowding: float) -> None:
        """Adapt a server's cap to its own report: requests that wait, as a share of what its engine can hold."""
        lane = self.lanes[index]
        if lane.until_change > 0:
            return
        if crowding > CROWDED:
            lane.cap = max(LEAST_CAP, int(min(lane.cap, lane.in_flight) * CAP_SHRINK))
        elif lane.held_back:
            lane.cap += CAP_STEP
        else:
            return
        lane.held_back, lane.until_change = False, lane.cap

    def _remember(self, prefix: Hashable, index: int) -> None:
        self._last_server[prefix] = index
        self._last_server.move_to_end(prefix)
        if len(self._last_server) > REMEMBERED_PREFIXES:
            self._last_server.popitem(last=False)
