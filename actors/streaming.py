"""The rollout worker of an asynchronous run: portions overlap, and requests name the newest version that is known."""

from __future__ import annotations

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
class _EpisodesTally(RolloutTally):
    """Counts and rows of one order's episodes."""

    rows: list[Step] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    env_errors: int = 0


class StreamingWorker(RolloutWorker):
    """A rollout worker that plays on between two portions.

    Args:
        carry_versions: `stream` carries an open episode over to the next portion while its rows are of less than so
            many versions before the current one; with 0 it is cut at every portion's end.
        arguments: see `RolloutWorker`.
    """

    def __init__(self, *, carry_versions: int = 0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._carry_versions = carry_versions
        self._newest_version = -1
        self._steps: StepStream[EnvSlot, Portion] | None = None
        self._episodes: EpisodeStream[EnvSlot, Portion, _EpisodesTally] | None = None
        self._tally = RolloutTally()

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
            self._tally = RolloutTally(self._env_errors)
            self._steps = StepStream(self._slots, self._advance_streaming, self._hand_over_steps)
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
            self._episodes = EpisodeStream(self._slots, self._play_one, self._hand_over_episodes, _EpisodesTally)
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

    async def _advance_streaming(self, slot: EnvSlot, version: int, temperature: float) -> None:
        slot.diary.begin()
        await self._advance([slot], version, temperature, self._tally)
        slot.diary.end()

    def _hand_over_steps(self, version: int, idle_s: float) -> Portion:
        def is_fresh(slot: EnvSlot) -> bool:
            oldest = slot.builder.oldest_version
            return oldest is not None and version - oldest < self._carry_versions

        self._tally.idle_s = idle_s
        portion = self._hand_over(self._tally, is_fresh)
        self._tally.clear(self._env_errors)  # one object for good: steps under way are added to it later
        return portion

    async def _play_one(
        self, slot: EnvSlot, seed: int, version: Callable[[], int], temperature: float, tally: _EpisodesTally
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

    def _hand_over_episodes(self, tally: _EpisodesTally, idle_s: float) -> Portion:
        tally.idle_s = idle_s
        return encode(tally.rows, tally.frames), tally.report(self.worker_id, tally.rows, tally.env_errors)
