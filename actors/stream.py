"""Environment slots that play on without a pause, their rows handed over in portions.

An asynchronous run orders the next portion before the last one is complete, so that no slot waits for the slowest one
at a boundary. `StepStream` hands over environment steps: where a portion ends, every open trajectory is cut in front of
its current state, and the request for that very state, which is under way, becomes the first row of the next piece;
but what is older than the next portion's policy version is waited for. `EpisodeStream` hands over whole episodes.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Generic, TypeVar

Slot = TypeVar("Slot", bound=Hashable)
Order = TypeVar("Order", bound="_Order")
Part = TypeVar("Part")
"""What a slot did: rows, counts, or both."""
Portion = TypeVar("Portion")


@dataclass(slots=True, eq=False)
class _Order(Generic[Part, Portion]):
    """A portion that somebody waits for."""

    delivery: asyncio.Future[Portion]
    left: int
    """Units of work that are missing."""
    parts: list[Part] = field(default_factory=list)

    def deliver(self, portion: Portion) -> None:
        if not self.delivery.done():  # whoever ordered it may have gone
            self.delivery.set_result(portion)


class Stream(ABC, Generic[Slot, Order]):
    """Lets every slot do one unit of work after the other for as long as there are open orders.

    Args:
        slots: What plays.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._orders: list[Order] = []
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.policy_version = -1
        """What requests name from now on; those under way finish under theirs."""
        self.temperature = 1.0
        self._at_work = 0
        self._idle_s = 0.0
        self._idle_since_s = time.perf_counter()

    def advance_to(self, policy_version: int) -> None:
        """Name this version in all requests from now on, unless they name a newer one already."""
        self.policy_version = max(self.policy_version, policy_version)

    def close(self) -> None:
        """Stop playing; orders that are open are cancelled."""
        for task in self._tasks:
            task.cancel()
        for order in self._orders:
            order.delivery.cancel()
        self._tasks = []
        self._orders.clear()

    @abstractmethod
    def _has_work(self) -> bool:
        """Whether a unit may begin."""

    @abstractmethod
    async def _work(self, slot: Slot) -> None:
        """Begin a unit, see it through, and deliver what it completes."""

    def _open(self, order: Order, policy_version: int, temperature: float) -> None:
        self.advance_to(policy_version)
        self.temperature = temperature
        self._orders.append(order)
        self._news.set()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._play(slot)) for slot in self._slots]
            for task in self._tasks:
                task.add_done_callback(self._on_end)

    def _take_idle_s(self) -> float:
        """Seconds in which no slot was at work since the last time."""
        self._count_work(0)
        idle_s, self._idle_s = self._idle_s, 0.0
        return idle_s

    async def _play(self, slot: Slot) -> None:
        while True:
            while not self._has_work():
                self._news.clear()
                await self._news.wait()
            self._count_work(1)
            try:
                await self._work(slot)
            finally:
                self._count_work(-1)

    def _count_work(self, change: int) -> None:
        now = time.perf_counter()
        if self._at_work == 0:
            self._idle_s += now - self._idle_since_s
        self._at_work += change
        self._idle_since_s = now

    def _on_end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task not in self._tasks:
            return
        error = task.exception()
        assert error is not None, "a slot plays until it fails"
        orders = list(self._orders)
        self._orders.clear()
        self.close()
        for order in orders:
            if not order.delivery.done():
                order.delivery.set_exception(error)


@dataclass(slots=True, eq=False)
class _StepOrder(_Order[Part, Portion], Generic[Slot, Part, Portion]):
    policy_version: int = 0
    """What it was made under: none of its rows is older."""
    late: set[Slot] | None = None
    """Slots that are still to bring their step under way; None while any slot's step counts."""


class StepStream(Stream[Slot, _StepOrder[Slot, Part, Portion]], Generic[Slot, Part, Portion]):
    """Hands over environment steps.

    A step counts for the oldest order as long as what is then still under way can serve the orders after it: an order
    is closed as soon as all that it misses is under way and too old for a later one. So an order has exactly the steps
    that it asked for, none of them of an older version than its own, and waits for slow steps only where it must.

    Args:
        slots: What plays.
        advance: Takes one environment step with a slot under a policy version and a temperature; what happened.
        leave: Called where a slot has brought its last step for an order: what there is of its rows. Given the next
            order's policy version, if there is one: an open trajectory that is as new may be kept back for it.
        hand_over: An order's parts as a portion, given the seconds in which no slot was at work.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        advance: Callable[[Slot, int, float], Awaitable[Part]],
        leave: Callable[[Slot, int | None], Part],
        hand_over: Callable[[list[Part], float], Portion],
    ) -> None:
        super().__init__(slots)
        self._advance = advance
        self._leave = leave
        self._hand_over = hand_over
        self._to_begin = 0
        self._under_way: dict[Slot, int] = {}
        """Policy version of each slot's step."""

    async def collect(self, num_steps: int, policy_version: int, temperature: float) -> Portion:
        """The next `num_steps` environment steps; calls that overlap are served in their order.

        Raises:
            ValueError: `num_steps` is below 1.
            Exception: What a slot's step raised. All orders fail with it, and what was under way is given up.
        """
        if num_steps < 1:
            raise ValueError(f"A portion has at least 1 step, not {num_steps}.")
        delivery: asyncio.Future[Portion] = asyncio.get_running_loop().create_future()
        self._to_begin += num_steps
        self._open(_StepOrder(delivery, num_steps, policy_version=policy_version), policy_version, temperature)
        self._close_orders()
        return await delivery

    def close(self) -> None:
        """See `Stream.close`."""
        super().close()
        self._to_begin = 0
        self._under_way.clear()

    def _has_work(self) -> bool:
        return self._to_begin > 0

    async def _work(self, slot: Slot) -> None:
        self._to_begin -= 1
        self._under_way[slot] = self.policy_version
        part = await self._advance(slot, self.policy_version, self.temperature)
        del self._under_way[slot]
        waiting = next((order for order in self._orders if order.late and slot in order.late), None)
        if waiting is None:
            order = self._open_orders()[0]
            order.parts.append(part)
            order.left -= 1
            self._close_orders()
        else:
            waiting.parts += [part, self._leave(slot, None)]
            assert waiting.late is not None
            waiting.late.remove(slot)
            self._deliver_if_complete(waiting)

    def _open_orders(self) -> list[_StepOrder[Slot, Part, Portion]]:
        return [order for order in self._orders if order.late is None]

    def _close_orders(self) -> None:
        """Close what misses nothing, or only steps that are under way and too old for a later order."""
        while self._close_first():
            pass

    def _close_first(self) -> bool:
        promised = {slot for order in self._orders for slot in order.late or ()}
        free = sorted((slot for slot in self._under_way if slot not in promised), key=self._under_way.__getitem__)
        orders = self._open_orders()
        missing = 0
        for place, (order, after) in enumerate(zip_longest(orders, orders[1:])):
            missing += order.left
            old = [slot for slot in free if after is not None and self._under_way[slot] < after.policy_version]
            if missing == len(old):
                self._close(orders[: place + 1], old, promised, after.policy_version if after else None)
                return True
        return False

    def _close(
        self,
        orders: Sequence[_StepOrder[Slot, Part, Portion]],
        old: Sequence[Slot],
        promised: Collection[Slot],
        next_version: int | None,
    ) -> None:
        """Give the first order all there is, and each what it misses of the steps under way, the oldest first."""
        begin = 0
        for order in orders:
            order.late, begin = set(old[begin : begin + order.left]), begin + order.left
        first = orders[0]
        stay_away = {*promised, *(first.late or ())}
        first.parts += [self._leave(slot, next_version) for slot in self._slots if slot not in stay_away]
        for order in orders:
            self._deliver_if_complete(order)

    def _deliver_if_complete(self, order: _StepOrder[Slot, Part, Portion]) -> None:
        if order.late:
            return
        portion = self._hand_over(order.parts, self._take_idle_s())
        self._orders.remove(order)
        order.deliver(portion)


@dataclass(slots=True, eq=False)
class _EpisodeOrder(_Order[Part, Portion]):
    waiting: deque[int] = field(default_factory=deque)
    """Reset seeds of episodes that have not begun."""


class EpisodeStream(Stream[Slot, _EpisodeOrder[Part, Portion]], Generic[Slot, Part, Portion]):
    """Hands over whole episodes. A slot whose episode has ended begins one of the next order at once, so that the
    longest episode of an order holds up nobody else.

    Args:
        slots: What plays.
        play: Plays one episode from a reset seed to its end; `version()` is what its next request names. What
            happened.
        hand_over: An order's parts as a portion, given the seconds in which no slot was at work.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        play: Callable[[Slot, int, Callable[[], int], float], Awaitable[Part]],
        hand_over: Callable[[list[Part], float], Portion],
    ) -> None:
        super().__init__(slots)
        self._play_episode = play
        self._hand_over = hand_over

    async def collect(self, seeds: Sequence[int], policy_version: int, temperature: float) -> Portion:
        """One episode per reset seed; calls that overlap begin in their order.

        Raises:
            ValueError: There is no seed.
            Exception: What a slot's episode raised. All orders fail with it, and what was under way is given up.
        """
        if not seeds:
            raise ValueError("A portion has at least 1 episode, not 0.")
        delivery: asyncio.Future[Portion] = asyncio.get_running_loop().create_future()
        self._open(_EpisodeOrder(delivery, len(seeds), waiting=deque(seeds)), policy_version, temperature)
        return await delivery

    def _has_work(self) -> bool:
        return any(order.waiting for order in self._orders)

    async def _work(self, slot: Slot) -> None:
        order = next(order for order in self._orders if order.waiting)
        seed = order.waiting.popleft()
        order.parts.append(await self._play_episode(slot, seed, lambda: self.policy_version, self.temperature))
        order.left -= 1
        if not order.left:
            portion = self._hand_over(order.parts, self._take_idle_s())
            self._orders.remove(order)
            order.deliver(portion)
