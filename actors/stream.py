"""Environment slots that play on without a pause, their rows handed over in portions.

An asynchronous run asks for the next portion before the last one is complete, so that no slot waits for the slowest
one at a boundary: where a portion ends, every open trajectory is cut in front of its current state, and the request
for that very state, which is under way, becomes the first row of the next piece.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Slot = TypeVar("Slot")
Portion = TypeVar("Portion")


@dataclass(slots=True)
class _Order(Generic[Portion]):
    steps: int
    delivery: asyncio.Future[Portion]


class SlotStream(Generic[Slot, Portion]):
    """Lets every slot take one step after the other for as long as steps are ordered.

    Args:
        slots: What plays.
        advance: Takes one environment step with a slot under a policy version and a temperature.
        hand_over: Everything since the last time, given the version that requests now name and the seconds in which
            no slot was at work.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        advance: Callable[[Slot, int, float], Awaitable[None]],
        hand_over: Callable[[int, float], Portion],
    ) -> None:
        self._slots = slots
        self._advance = advance
        self._hand_over = hand_over
        self._orders: deque[_Order[Portion]] = deque()
        self._to_begin = 0
        self._finished = 0
        self._room = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._version = -1
        self._temperature = 1.0
        self._at_work = 0
        self._idle_s = 0.0
        self._idle_since_s = time.perf_counter()

    def advance_to(self, policy_version: int) -> None:
        """Name this version in all requests from now on; those under way finish under theirs."""
        self._version = max(self._version, policy_version)

    async def collect(self, num_steps: int, policy_version: int, temperature: float) -> Portion:
        """The next `num_steps` environment steps; calls that overlap are served in their order.

        Raises:
            ValueError: `num_steps` is below 1.
            Exception: What a slot's step raised. All orders fail with it, and what was under way is given up.
        """
        if num_steps < 1:
            raise ValueError(f"A portion has at least 1 step, not {num_steps}.")
        self.advance_to(policy_version)
        self._temperature = temperature
        order = _Order(num_steps, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        self._to_begin += num_steps
        self._room.set()
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._play(slot)) for slot in self._slots]
            for task in self._tasks:
                task.add_done_callback(self._on_end)
        return await order.delivery

    def close(self) -> None:
        """Stop playing; orders that are open are cancelled."""
        for task in self._tasks:
            task.cancel()
        for order in self._orders:
            order.delivery.cancel()
        self._tasks, self._to_begin, self._finished = [], 0, 0
        self._orders.clear()

    async def _play(self, slot: Slot) -> None:
        while True:
            while not self._to_begin:
                self._room.clear()
                await self._room.wait()
            self._to_begin -= 1
            self._count_work(1)
            try:
                await self._advance(slot, self._version, self._temperature)
            finally:
                self._count_work(-1)
            self._finish_step()

    def _finish_step(self) -> None:
        self._finished += 1
        if self._finished < self._orders[0].steps:
            return
        self._finished = 0
        now = time.perf_counter()
        if not self._at_work:
            self._idle_s, self._idle_since_s = self._idle_s + now - self._idle_since_s, now
        idle_s, self._idle_s = self._idle_s, 0.0
        portion = self._hand_over(self._version, idle_s)
        order = self._orders.popleft()
        if not order.delivery.done():  # whoever ordered it may have gone
            order.delivery.set_result(portion)

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
