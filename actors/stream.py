"""Environment slots that play on without a pause, their rows handed over in portions.

An asynchronous run orders the next portion before the last one is complete, so that no slot waits for the slowest one
at a boundary. What was begun for an order is delivered with it, however late it comes: no row of a portion is of an
older policy version than the one it was ordered under. `StepStream` hands over environment steps: where a slot goes on
to the next order, its open trajectory is cut in front of its current state. `EpisodeStream` hands over whole episodes.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Slot = TypeVar("Slot")
Order = TypeVar("Order", bound="_Order")
Portion = TypeVar("Portion")
Tally = TypeVar("Tally")


@dataclass(slots=True, eq=False)
class _Order(Generic[Portion, Tally]):
    """A portion that somebody waits for."""

    delivery: asyncio.Future[Portion]
    left: int
    """Units of work that are not finished."""
    tally: Tally

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
class _StepOrder(_Order[Portion, Tally]):
    to_begin: int
    """Steps that have not begun."""
    policy_version: int
    """What it was ordered under; all its steps are of this version or later ones."""


class StepStream(Stream[Slot, _StepOrder[Portion, Tally]], Generic[Slot, Portion, Tally]):
    """Hands over environment steps.

    Args:
        slots: What plays; hashable.
        advance: Takes one environment step with a slot under a policy version and a temperature. Adds what happens to
            the order's tally.
        leave: Told when a slot has taken its last step for an order: adds the slot's rows to the order's tally. Given
            the version that the slot's next order was made under, if that is begun at once: rows that are as new may
            be kept for it.
        hand_over: An order's tally as a portion, given the seconds in which no slot was at work.
        make_tally: An empty one.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        advance: Callable[[Slot, int, float, Tally], Awaitable[None]],
        leave: Callable[[Slot, Tally, int | None], None],
        hand_over: Callable[[Tally, float], Portion],
        make_tally: Callable[[], Tally],
    ) -> None:
        super().__init__(slots)
        self._advance = advance
        self._leave = leave
        self._hand_over = hand_over
        self._make_tally = make_tally
        self._plays_for: dict[Slot, _StepOrder[Portion, Tally]] = {}

    async def collect(self, num_steps: int, policy_version: int, temperature: float) -> Portion:
        """Begin the next `num_steps` environment steps and see them through; calls that overlap begin in their order.

        Raises:
            ValueError: `num_steps` is below 1.
            Exception: What a slot's step raised. All orders fail with it, and what was under way is given up.
        """
        if num_steps < 1:
            raise ValueError(f"A portion has at least 1 step, not {num_steps}.")
        delivery: asyncio.Future[Portion] = asyncio.get_running_loop().create_future()
        order = _StepOrder(delivery, num_steps, self._make_tally(), num_steps, policy_version)
        self._open(order, policy_version, temperature)
        return await delivery

    def _has_work(self) -> bool:
        return any(order.to_begin for order in self._orders)

    async def _work(self, slot: Slot) -> None:
        order = next(order for order in self._orders if order.to_begin)
        order.to_begin -= 1
        before = self._plays_for.get(slot)
        if before is not None and before is not order:
            self._leave(slot, before.tally, order.policy_version)
        self._plays_for[slot] = order
        await self._advance(slot, self.policy_version, self.temperature, order.tally)
        order.left -= 1
        if not order.left:
            self._complete(order)

    def _complete(self, order: _StepOrder[Portion, Tally]) -> None:
        for slot in [slot for slot, playing_for in self._plays_for.items() if playing_for is order]:
            del self._plays_for[slot]
            self._leave(slot, order.tally, None)
        portion = self._hand_over(order.tally, self._take_idle_s())
        self._orders.remove(order)
        order.deliver(portion)


@dataclass(slots=True, eq=False)
class _EpisodeOrder(_Order[Portion, Tally]):
    waiting: deque[int]
    """Reset seeds of episodes that have not begun."""


class EpisodeStream(Stream[Slot, _EpisodeOrder[Portion, Tally]], Generic[Slot, Portion, Tally]):
    """Hands over whole episodes. A slot whose episode has ended begins one of the next order at once, so that the
    longest episode of an order holds up nobody else.

    Args:
        slots: What plays.
        play: Plays one episode from a reset seed to its end; `version()` is what its next request names. Adds what
            happens to the order's tally.
        hand_over: An order's tally as a portion, given the seconds in which no slot was at work.
        make_tally: An empty one.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        play: Callable[[Slot, int, Callable[[], int], float, Tally], Awaitable[None]],
        hand_over: Callable[[Tally, float], Portion],
        make_tally: Callable[[], Tally],
    ) -> None:
        super().__init__(slots)
        self._play_episode = play
        self._hand_over = hand_over
        self._make_tally = make_tally

    async def collect(self, seeds: Sequence[int], policy_version: int, temperature: float) -> Portion:
        """One episode per reset seed; calls that overlap begin in their order.

        Raises:
            ValueError: There is no seed.
            Exception: What a slot's episode raised. All orders fail with it, and what was under way is given up.
        """
        if not seeds:
            raise ValueError("A portion has at least 1 episode, not 0.")
        delivery: asyncio.Future[Portion] = asyncio.get_running_loop().create_future()
        self._open(_EpisodeOrder(delivery, len(seeds), self._make_tally(), deque(seeds)), policy_version, temperature)
        return await delivery

    def _has_work(self) -> bool:
        return any(order.waiting for order in self._orders)

    async def _work(self, slot: Slot) -> None:
        order = next(order for order in self._orders if order.waiting)
        seed = order.waiting.popleft()
        await self._play_episode(slot, seed, lambda: self.policy_version, self.temperature, order.tally)
        order.left -= 1
        if not order.left:
            portion = self._hand_over(order.tally, self._take_idle_s())
            self._orders.remove(order)
            order.deliver(portion)
