"""The rollout worker: many environment slots, one sampler, trajectories out.

A plain class that runs in one process under a debugger; `cluster` wraps it as a Ray actor. All slots wait for their
samples at the same time, so that the engine always has a full batch; in deterministic mode they go in rounds instead,
one batched call per round, so that the engine sees the same batches at every run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import gymnasium
import numpy as np

from actors.builder import SlotIdentity
from actors.diary import Diary, WorkLog
from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.report import RolloutReport, RolloutTally
from actors.rewards import UNSHAPED, RewardWeights
from actors.sampler import Sample, Sampler, SamplingParams
from actors.slot import EnvSlot
from actors.tasks import before_deadline, gather_or_cancel
from envs.base import TaskAdapter
from protocol.codec import TrajectoryBatch, encode
from protocol.episode import EpisodeResult
from protocol.errors import CheckpointError

Episode = TypeVar("Episode")
"""What an episode is begun from: its reset seed, or its place in a panel with it."""


@dataclass(slots=True)
class _Budget:
    """Environment steps left to begin in this rollout."""

    left: int

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


class RolloutWorker:
    """Steps `slots` environments concurrently under one policy.

    Args:
        run_id, worker_id: Names for the rows; a restarted worker gets a new `worker_id`.
        make_env: Builds one environment with its task adapter.
        make_evaluated_env: The same for evaluations; None: `make_env`.
        encoder: Prompt text to token ids of the served model.
        sampler: Where responses come from.
        slots: Environments stepped concurrently.
        max_tokens: Limit of a response, in tokens.
        seed: The run's seed; with `worker_id` the source of every random draw of this worker.
        deterministic: Step all slots in rounds and seed every request.
        sample_deadline_s: How long one response may take, in seconds.
        rewards: What a row's reward is made of.
        clock: Seconds that only ever grow; for what a request tells of the time before it.
    """

    def __init__(
        self,
        *,
        run_id: str,
        worker_id: str,
        make_env: Callable[[], tuple[gymnasium.Env, TaskAdapter]],
        encoder: PromptEncoder,
        sampler: Sampler,
        slots: int,
        max_tokens: int,
        seed: int,
        deterministic: bool = False,
        sample_deadline_s: float = 120.0,
        rewards: RewardWeights = UNSHAPED,
        make_evaluated_env: Callable[[], tuple[gymnasium.Env, TaskAdapter]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if slots < 1:
            raise ValueError(f"A rollout worker needs at least 1 environment slot, got {slots}.")
        self.worker_id = worker_id
        self._run_id = run_id
        self._make_evaluated_env = make_evaluated_env or make_env
        self._encoder = encoder
        self._sampler = sampler
        self._max_tokens = max_tokens
        # Workers of one run, and a worker and its successor after a crash, must not play the same episodes.
        self._seed = int(np.random.SeedSequence([seed, *worker_id.encode()]).generate_state(1)[0])
        self._deterministic = deterministic
        self._deadline_s = sample_deadline_s
        self._rewards = rewards
        self._clock = clock
        self._work_log = WorkLog()
        self._frame_encoder = FrameEncoder()
        self._slots = [self._make_slot(i, make_env) for i in range(slots)]
        for slot in self._slots:
            slot.reset()

    async def collect(
        self, num_steps: int, policy_version: int, temperature: float
    ) -> tuple[TrajectoryBatch, RolloutReport]:
        """Take `num_steps` environment steps under one policy version; open episodes are cut and go on next time.

        A step at which the environment raises is one of the `num_steps`, but leaves no row.

        Raises:
            DeadlineExceeded: A response did not come within the deadline.
            EnvironmentFailed: An environment raised at several steps in a row.
            RequestRefused: The server sees other prompts than this worker.
        """
        tally = RolloutTally(self._env_errors)
        for slot in self._slots:
            if slot.resting:
                slot.reset()
        play = self._play_rounds if self._deterministic else self._play_freely
        await play(self._slots, _Budget(num_steps), policy_version, temperature, tally)
        return self._hand_over(tally)

    async def collect_episodes(
        self, seeds: Sequence[int], policy_version: int, temperature: float
    ) -> tuple[TrajectoryBatch, RolloutReport]:
        """Play one whole episode per reset seed; equal seeds begin in equal states and are sampled apart.

        Episodes that an earlier `collect` left open are given up.

        Raises:
            DeadlineExceeded, EnvironmentFailed, RequestRefused: See `collect`.
        """
        tally = RolloutTally(self._env_errors)
        slots, waiting = self._slots[: len(seeds)], deque(seeds)

        def ended(seed: int, result: EpisodeResult) -> None:
            tally.episodes.append(result)

        await self._play_episodes(slots, waiting, EnvSlot.reset, ended, policy_version, temperature, tally)
        for slot in self._slots:
            slot.rest()
        return self._hand_over(tally)

    @property
    def _env_errors(self) -> int:
        return sum(slot.env_errors for slot in self._slots)

    def _hand_over(self, tally: RolloutTally) -> tuple[TrajectoryBatch, RolloutReport]:
        """All rows since the last time; open episodes are cut and go on."""
        rows, frames = [], []
        for slot in self._slots:
            slot.cut()
            slot_rows, slot_frames = slot.builder.take()
            rows += slot_rows
            frames += slot_frames
        return encode(rows, frames), tally.report(self.worker_id, rows, self._env_errors)

    async def run_episodes(self, seeds: Sequence[int], policy_version: int, temperature: float) -> list[EpisodeResult]:
        """Play one whole episode per seed, in fresh environments, and leave the training slots alone.

        Returns:
            One result per seed, in the order of `seeds`.

        Raises:
            DeadlineExceeded, EnvironmentFailed, RequestRefused: See `collect`.
        """
        waiting = deque(enumerate(seeds))
        results: dict[int, EpisodeResult] = {}

        def begin(slot: EnvSlot, episode: tuple[int, int]) -> None:
            slot.builder.take()  # evaluation keeps results, not rows
            slot.reset_to_panel(episode[1])

        def ended(episode: tuple[int, int], result: EpisodeResult) -> None:
            results[episode[0]] = result

        with ExitStack() as resources:
            count = min(len(self._slots), len(seeds))
            slots = [self._make_slot(number, self._make_evaluated_env) for number in range(count)]
            for slot in slots:
                resources.callback(slot.close)
            await self._play_episodes(slots, waiting, begin, ended, policy_version, temperature, RolloutTally())
        return [results[index] for index in range(len(seeds))]

    def state_dict(self) -> dict[str, Any]:
        """State between two rollouts, plain JSON values."""
        return {"slots": [slot.state_dict() for slot in self._slots]}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a saved state; what was not collected yet is forgotten.

        Raises:
            CheckpointError: It was saved by a worker with another number of slots, or the environment does not
                repeat its episode.
        """
        if len(saved["slots"]) != len(self._slots):
            raise CheckpointError(
                f"The checkpoint holds {len(saved['slots'])} environment slots, this worker has {len(self._slots)}.",
                "resume with the same workers.envs_per_worker",
            )
        for slot, state in zip(self._slots, saved["slots"], strict=True):
            slot.load_state_dict(state)

    def close(self) -> None:
        """Close every environment."""
        for slot in self._slots:
            slot.close()

    def _make_slot(self, index: int, make_env: Callable[[], tuple[gymnasium.Env, TaskAdapter]]) -> EnvSlot:
        env, adapter = make_env()
        identity = SlotIdentity(self._run_id, self.worker_id, index, self._seed)
        diary = Diary(self._work_log, self._clock)
        return EnvSlot(env, adapter, self._encoder, self._frame_encoder, identity, self._rewards, diary)

    async def _play_episodes(
        self,
        slots: Sequence[EnvSlot],
        waiting: deque[Episode],
        begin: Callable[[EnvSlot, Episode], None],
        ended: Callable[[Episode, EpisodeResult], None],
        version: int,
        temperature: float,
        tally: RolloutTally,
    ) -> None:
        """Play what waits until nothing is left: in deterministic mode all slots in step with each other."""

        async def play(together: Sequence[EnvSlot]) -> None:
            playing: dict[EnvSlot, Episode] = {}
            for slot in together:
                if waiting:
                    playing[slot] = waiting.popleft()
                    slot.diary.begin()
                    begin(slot, playing[slot])
            while playing:
                going = list(playing)
                results = await self._round(going, version, temperature, tally)
                for slot, result in zip(going, results, strict=True):
                    if result is None:
                        continue
                    ended(playing[slot], result)
                    if waiting:
                        playing[slot] = waiting.popleft()
                        begin(slot, playing[slot])
                    else:
                        del playing[slot]
                        slot.diary.end()

        groups = [slots] if self._deterministic else [[slot] for slot in slots]
        await gather_or_cancel([play(group) for group in groups])

    async def _play_freely(
        self, slots: list[EnvSlot], budget: _Budget, version: int, temperature: float, tally: RolloutTally
    ) -> None:
        async def play(slot: EnvSlot) -> None:
            slot.diary.begin()
            while budget.take():
                await self._advance([slot], version, temperature, tally)
            slot.diary.end()

        await gather_or_cancel([play(slot) for slot in slots])

    async def _play_rounds(
        self, slots: list[EnvSlot], budget: _Budget, version: int, temperature: float, tally: RolloutTally
    ) -> None:
        for slot in slots:
            slot.diary.begin()
        while budget.left > 0:
            going = slots[: budget.left]
            budget.left -= len(going)
            await self._advance(going, version, temperature, tally)
        for slot in slots:
            slot.diary.end()

    async def _advance(self, slots: Sequence[EnvSlot], version: int, temperature: float, tally: RolloutTally) -> None:
        """One round; an episode that ended is followed at once by the next, whose own state makes the next prompt."""
        results = await self._round(slots, version, temperature, tally)
        for slot, result in zip(slots, results, strict=True):
            if result is not None:
                tally.episodes.append(result)
                slot.reset()

    async def _round(
        self, slots: Sequence[EnvSlot], version: int, temperature: float, tally: RolloutTally
    ) -> list[EpisodeResult | None]:
        """Sample once for every slot and step every environment; results in the order of `slots`."""
        params = SamplingParams(temperature=temperature, max_tokens=self._max_tokens)
        requests = [slot.request(params, version, seeded=self._deterministic) for slot in slots]
        began = self._clock()
        pending: Awaitable[list[Sample]] = self._sampler.sample_batch(requests)
        samples = await before_deadline(pending, self._deadline_s, f"{len(requests)} response(s) of policy {version}")
        waited_s = self._clock() - began
        for slot, sample in zip(slots, samples, strict=True):
            slot.diary.answered(waited_s, sample.sample_s)
        results = []
        for slot, sample in zip(slots, samples, strict=True):
            results.append(slot.apply(sample, temperature, waited_s))
            tally.tokens += len(sample.token_ids)
            tally.sample_s += waited_s
        return results
