"""The rollout worker of an asynchronous run: portions overlap, and requests name the newest version that is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.report import RolloutReport, RolloutTally
from actors.slot import EnvSlot
from actors.stream import EpisodeStream, StepStream
from actors.worker import RolloutWorker
from protocol.codec import TrajectoryBatch, encode
from protocol.trajectory import Frame, Step

Portion = tuple[TrajectoryBatch, RolloutReport]


@dataclass(slots=True)
class _PortionTally(RolloutTally):
    """Counts and rows of one order."""

    rows: list[Step] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    env_errors: int = 0


class StreamingWorker(RolloutWorker):
    """A rollout worker that plays on between two portions.

    Args:
        carry_episodes: `stream` carries an open episode over to the next portion, where none of its rows is of an
            older version than that portion was ordered under; else it is cut at every portion's end.
        arguments: see `RolloutWorker`.
    """

    def __init__(self, *, carry_episodes: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._carry_episodes = carry_episodes
        self._newest_version = -1
        self._steps: StepStream[EnvSlot, Portion, _PortionTally] | None = None
        self._episodes: EpisodeStream[EnvSlot, Portion, _PortionTally] | None = None
        self._handed_over_s = 0.0

    async def stream(self, num_steps: int, policy_version: int, temperature: float) -> Portion:
        """Like `collect`, but slots play on between the portions: order the next one before this one is complete.

        Requests name the newest version that this worker was told. Steps are taken freely, whatever `deterministic`
        says.

        Raises:
            DeadlineExceeded, EnvironmentFailed, RequestRefused: See `collect`; all orders fail.
        """
        if self._steps is None:
            for slot in self._slots:
                if slot.resting:
                    slot.reset()
                slot.cut()
                slot.builder.take()  # what a stream that failed had begun is given up
            self._handed_over_s = time.perf_counter()
            self._steps = StepStream(
                self._slots, self._advance_streaming, self._leave, self._hand_over_portion, _PortionTally
            )
        try:
            return await self._steps.collect(num_steps, self._newest(policy_version), temperature)
        except Exception:
            self._steps = None
            raise

    async def stream_episodes(self, seeds: Sequence[int], policy_version: int, temperature: float) -> Portion:
        """Like `collect_episodes`, but slots go on with the next order's episodes when none of this one is left.

        Raises:
            DeadlineExceeded, EnvironmentFailed, RequestRefused: See `collect`; all orders fail.
        """
        if self._episodes is None:
            self._handed_over_s = time.perf_counter()
            self._episodes = EpisodeStream(self._slots, self._play_one, self._hand_over_portion, _PortionTally)
        try:
            return await self._episodes.collect(seeds, self._newest(policy_version), temperature)
        except Exception:
            self._episodes = None
            raise

    def advance_to(self, policy_version: int) -> None:
        """Name this version in the requests of streams from now on; those under way finish under theirs."""
        self._newest(policy_version)
        for stream in (self._steps, self._episodes):
            if stream is not None:
                stream.advance_to(policy_version)

    def close(self) -> None:
        """Stop playing, and close every environment."""
        for stream in (self._steps, self._episodes):
            if stream is not None:
                stream.close()
        super().close()

    def _newest(self, policy_version: int) -> int:
        self._newest_version = max(self._newest_version, policy_version)
        return self._newest_version

    async def _advance_streaming(self, slot: EnvSlot, version: int, temperature: float, tally: _PortionTally) -> None:
        errors = slot.env_errors
        slot.diary.begin()
        await self._advance([slot], version, temperature, tally)
        slot.diary.end()
        tally.env_errors += slot.env_errors - errors

    def _leave(self, slot: EnvSlot, tally: _PortionTally, next_version: int | None) -> None:
        """Cut the slot's open episode, unless it may be carried over, and hand over what is whole."""
        oldest = slot.builder.oldest_version
        fresh = next_version is not None and oldest is not None and oldest >= next_version
        if not (self._carry_episodes and fresh):
            slot.cut()
        rows, frames = slot.builder.take(leave_open=True)
        tally.rows += rows
        tally.frames += frames

    async def _play_one(
        self, slot: EnvSlot, seed: int, version: Callable[[], int], temperature: float, tally: _PortionTally
    ) -> None:
        errors = slot.env_errors
        slot.diary.begin()
        slot.reset(seed)
        result = None
        while result is None:
            (result,) = await self._round([slot], version(), temperature, tally)
        rows, frames = slot.builder.take()
        tally.episodes.append(result)
        tally.rows += rows
        tally.frames += frames
        tally.env_errors += slot.env_errors - errors
        slot.rest()
        slot.diary.end()

    def _hand_over_portion(self, tally: _PortionTally, idle_s: float) -> Portion:
        """An order's rows and numbers; its wall clock begins where the portion before it was handed over."""
        tally.idle_s = idle_s
        tally.began_s, self._handed_over_s = self._handed_over_s, time.perf_counter()
        return encode(tally.rows, tally.frames), tally.report(self.worker_id, tally.rows, tally.env_errors)
