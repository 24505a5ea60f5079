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
class _Part(RolloutTally):
    """What one slot did: rows that are whole, or counts, or both."""

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
        self._steps: StepStream[EnvSlot, _Part, Portion] | None = None
        self._episodes: EpisodeStream[EnvSlot, _Part, Portion] | None = None
        self._handed_over_s = 0.0

    async def stream(self, num_steps: int, policy_version: int, temperature: float) -> Portion:
        """Like `collect`, but slots play on between the portions: order the next one before this one is complete.

        Requests name the newest version that this worker was told; no row is older than its portion's
        `policy_version`. Steps are taken freely, whatever `deterministic` says.

        Raises:
            DeadlineExceeded, EnvironmentFailed, RequestRefused: See `collect`; all orders fail.
        """
        if self._steps is None:
            for slot in self._slots:
                if slot.resting:
                    slot.reset()
            self._handed_over_s = time.perf_counter()
            self._steps = StepStream(self._slots, self._advance_streaming, self._leave, self._hand_over_parts)
        stream = self._steps
        stream.advance_to(self._newest(policy_version))
        try:
            return await stream.collect(num_steps, policy_version, temperature)
        except Exception:
            if self._steps is stream:  # of several orders that fail together, the first one clears up
                self._steps = None
                self._give_up()
            raise

    async def stream_episodes(self, seeds: Sequence[int], policy_version: int, temperature: float) -> Portion:
        """Like `collect_episodes`, but slots go on with the next order's episodes when none of this one is left.

        Raises:
            DeadlineExceeded, EnvironmentFailed, RequestRefused: See `collect`; all orders fail.
        """
        if self._episodes is None:
            self._handed_over_s = time.perf_counter()
            self._episodes = EpisodeStream(self._slots, self._play_one, self._hand_over_parts)
        stream = self._episodes
        stream.advance_to(self._newest(policy_version))
        try:
            return await stream.collect(seeds, policy_version, temperature)
        except Exception:
            if self._episodes is stream:
                self._episodes = None
                self._give_up()
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

    def _give_up(self) -> None:
        """Forget what a stream that failed had begun."""
        for slot in self._slots:
            slot.give_up()

    async def _advance_streaming(self, slot: EnvSlot, version: int, temperature: float) -> _Part:
        part = _Part(slot.env_errors)
        slot.diary.begin()
        await self._advance([slot], version, temperature, part)
        slot.diary.end()
        part.env_errors = slot.env_errors - part.env_errors_before
        return part

    def _leave(self, slot: EnvSlot, next_version: int | None) -> _Part:
        """Cut the slot's open episode, unless it may be carried over, and take what is whole."""
        oldest = slot.builder.oldest_version
        fresh = next_version is not None and oldest is not None and oldest >= next_version
        if not (self._carry_episodes and fresh):
            slot.cut()
        part = _Part()
        part.rows, part.frames = slot.builder.take(leave_open=True)
        return part

    async def _play_one(self, slot: EnvSlot, seed: int, version: Callable[[], int], temperature: float) -> _Part:
        part = _Part(slot.env_errors)
        slot.diary.begin()
        slot.reset(seed)
        result = None
        while result is None:
            (result,) = await self._round([slot], version(), temperature, part)
        part.episodes.append(result)
        part.rows, part.frames = slot.builder.take()
        part.env_errors = slot.env_errors - part.env_errors_before
        slot.rest()
        slot.diary.end()
        return part

    def _hand_over_parts(self, parts: list[_Part], idle_s: float) -> Portion:
        """A portion of all parts; its wall clock begins where the portion before it was handed over."""
        rows = [row for part in parts for row in part.rows]
        batch = encode(rows, [frame for part in parts for frame in part.frames])
        whole = RolloutTally(0, self._handed_over_s, idle_s=idle_s)
        for part in parts:
            whole.tokens += part.tokens
            whole.sample_s += part.sample_s
            whole.episodes += part.episodes
        self._handed_over_s = time.perf_counter()
        return batch, whole.report(self.worker_id, rows, sum(part.env_errors for part in parts))
