"""One environment with the episode that is going on in it.

A rollout worker owns many slots. A slot makes the sample request for its state, turns the sample into an action,
steps the environment and hands the row to its builder. Everything random in it is a function of (seed, slot,
episode, step), so that a slot is restored exactly from a few numbers and a list of actions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import gymnasium
import numpy as np

from actors.builder import NextState, SlotIdentity, TrajectoryBuilder
from actors.diary import Diary
from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.rewards import UNSHAPED, RewardWeights
from actors.roles import token_roles
from actors.sampler import Sample, SampleRequest, SamplingParams
from actors.states import Answer, TaskState, describe, read_answer
from actors.tally import EpisodeTally
from envs.base import TaskAdapter
from protocol.episode import EpisodeResult
from protocol.errors import CheckpointError, EnvironmentFailed, RequestRefused
from protocol.row_info import ENVIRONMENT_REWARD, RECOGNIZED, SUCCESS, TRUTH
from protocol.trajectory import EndReason, Step

PURPOSES = ("reset", "sample", "fallback", "expert", "mistake")
"""What a slot draws random numbers for; each use has its own stream."""

MAX_CONSECUTIVE_FAILURES = 3
"""How many environment steps in a row may raise before the worker gives up."""

_PANEL = 2**32 - 1
"""Stands in the place of a slot's number where an evaluation panel's episode draws: no slot has it."""


class EnvSlot:
    """An environment, its task adapter and the episode going on.

    Args:
        env: Any gymnasium environment of the task.
        adapter: The task adapter that puts it into words.
        encoder: Prompt text to token ids; shared by the slots of a worker.
        frame_encoder: Images to frames; shared by the slots of a worker.
        identity: Names and seed for the rows.
        rewards: What a row's reward is made of.
        diary: Where it is written down what the slot does between answer and request.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        adapter: TaskAdapter,
        encoder: PromptEncoder,
        frame_encoder: FrameEncoder,
        identity: SlotIdentity,
        rewards: RewardWeights = UNSHAPED,
        diary: Diary | None = None,
    ) -> None:
        self._env = env
        self.adapter = adapter
        self._encoder = encoder
        self._frame_encoder = frame_encoder
        self._identity = identity
        self._rewards = rewards
        self.diary = diary or Diary()
        self.builder = TrajectoryBuilder()
        self.episode = -1
        self.env_errors = 0
        self.resting = True
        """Whether no episode is open; begin one before the next request."""
        self.state: TaskState
        self.tally = EpisodeTally()
        self._actions: list[str] = []
        self._env_seed = 0
        self._panel_seed: int | None = None
        self._piece_start = 0
        self._failures_in_a_row = 0

    def reset(self, env_seed: int | None = None) -> None:
        """Begin the slot's next episode, from its own seed or from the given one.

        Slots that begin from one seed begin in one state; what they sample differs.
        """
        self.episode += 1
        self._panel_seed = None
        self._begin(int(self.draw("reset").integers(2**31)) if env_seed is None else env_seed)

    def reset_to_panel(self, seed: int) -> None:
        """Begin an evaluation panel's episode: all its draws depend on this seed alone, whichever slot plays it."""
        self.episode += 1
        self._panel_seed = seed
        self._begin(seed)

    def rest(self) -> None:
        """Forget the episode, which has ended or is given up, where no other follows at once."""
        self._actions, self.tally, self._piece_start = [], EpisodeTally(), 0
        self.resting = True

    def give_up(self) -> None:
        """Forget the episode and its rows, wherever it stands; begin another before the next request."""
        self.builder = TrajectoryBuilder()
        self.rest()

    def request(self, params: SamplingParams, policy_version: int, *, seeded: bool) -> SampleRequest:
        """The request that asks for a response to the current state."""
        return SampleRequest(
            prompt_token_ids=list(self.state.prompt_token_ids),
            images=tuple(f.data for f in self.state.frames),
            image_digests=tuple(f.digest for f in self.state.frames),
            params=params,
            policy_version=policy_version,
            seed=int(self.draw("sample").integers(2**31)) if seeded else None,
            delays=self.diary.sent(),
        )

    def apply(self, sample: Sample, temperature: float, sample_s: float = 0.0) -> EpisodeResult | None:
        """Take the sampled action and keep the row.

        Returns:
            The finished episode, or None while it goes on. The caller begins the next one with `reset`.

        Raises:
            RequestRefused: The server expanded the prompt into other tokens than this worker would.
            EnvironmentFailed: The environment raised at several steps in a row.
        """
        self._check_prompt(sample)
        answer = read_answer(self._encoder.decode(sample.token_ids), self.state, self._random_legal)
        began = time.perf_counter()
        try:
            outcome = self._env.step(self.adapter.env_action(answer.action, self.state.info))
        except Exception as error:  # a user's environment may raise anything; the episode ends as data
            return self._abandon(error)
        env_s = time.perf_counter() - began
        self._failures_in_a_row = 0
        observation, reward, terminated, truncated, info = outcome
        # An environment that reports both has reached a terminal state: there is nothing to bootstrap from.
        end = EndReason.TERMINATED if terminated else EndReason.TRUNCATED if truncated else EndReason.NONE
        verdict = {}
        if end is not EndReason.NONE:
            verdict = {SUCCESS: self.adapter.success(self.tally.episode_return + float(reward), info)}
        row = self._row(sample, answer, float(reward), end, verdict, temperature, sample_s, env_s)
        self.builder.append(row, self.state.frames)
        self._actions.append(answer.action)
        self.tally.add(float(reward), legal=answer.legal, recognized=answer.recognized)
        if end is not EndReason.TERMINATED:
            self.state = describe(self.adapter, self._encoder, self._frame_encoder, observation, info)
        if end is EndReason.NONE:
            return None
        self.builder.close(end, self._next_state() if end.needs_bootstrap else None)
        return self.tally.result(self.adapter, end, info, self._panel_seed)

    def cut(self) -> None:
        """Close the open trajectory at the batch boundary; the episode goes on in the next batch."""
        if self.builder.is_open:
            self.builder.close(EndReason.CUT, self._next_state())
            self._piece_start = self.tally.steps

    def state_dict(self) -> dict[str, Any]:
        """What it takes to restore the slot between two batches: plain JSON values."""
        return {
            "episode": self.episode,
            "env_seed": self._env_seed,
            "actions": list(self._actions),
            "tally": asdict(self.tally),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Return to a saved point between two batches by playing the open episode's actions again.

        Raises:
            CheckpointError: The replay earned other rewards, or ended: the environment is not reproducible.
        """
        self.builder = TrajectoryBuilder()
        self.episode = int(saved["episode"])
        self._panel_seed = None
        self._begin(int(saved["env_seed"]))
        earned, ended = 0.0, False
        for action in saved["actions"]:
            outcome = self._env.step(self.adapter.env_action(action, self.state.info))
            observation, reward, terminated, truncated, info = outcome
            earned += float(reward)
            ended |= bool(terminated or truncated)
            self._actions.append(action)
            self.state = describe(self.adapter, self._encoder, self._frame_encoder, observation, info)
        self.tally = EpisodeTally(**saved["tally"])
        self._piece_start = self.tally.steps
        if ended or earned != self.tally.episode_return:
            raise CheckpointError(
                f"Playing the {len(saved['actions'])} saved action(s) of {self.state.adapter.env_id} again from seed "
                f"{self._env_seed} {'ended the episode' if ended else f'earned {earned:g}'}; the saved return "
                f"is {self.tally.episode_return:g}, of an open episode.",
                f"resume with the same environment; `croupier check-env {self.state.adapter.env_id}` tests its seeding",
            )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def draw(self, purpose: str) -> np.random.Generator:
        """Generator for one use at one step: nothing random outlives the step, so nothing must be saved."""
        source = (self._identity.seed, self._identity.slot, self.episode)
        if self._panel_seed is not None:
            source = (self._panel_seed, _PANEL, 0)
        step = 0 if purpose == "reset" else self.tally.steps
        return np.random.default_rng([*source, step, PURPOSES.index(purpose)])

    def _begin(self, env_seed: int) -> None:
        observation, info = self._env.reset(seed=env_seed)
        self._env_seed = env_seed
        self.resting = False
        self._actions = []
        self._piece_start = 0
        self.tally = EpisodeTally()
        self.state = describe(self.adapter, self._encoder, self._frame_encoder, observation, info)

    def _check_prompt(self, sample: Sample) -> None:
        state = self.state
        self._encoder.learn_expansion(state.prompt_token_ids, sample.prompt_token_ids, state.sizes)
        expected = self._encoder.expand(state.prompt_token_ids, state.sizes)
        if not np.array_equal(expected, sample.prompt_token_ids):
            raise RequestRefused(
                f"The server saw a prompt of {len(sample.prompt_token_ids)} tokens where the worker expected "
                f"{len(expected)}, or other ids; what is sampled must be what is scored.",
                "serve the model from the same folder that the workers read, with one version of its processor",
            )

    def _row(
        self,
        sample: Sample,
        answer: Answer,
        reward: float,
        end: EndReason,
        verdict: Mapping[str, bool],
        temperature: float,
        sample_s: float,
        env_s: float,
    ) -> Step:
        """The row of the step just taken, its trajectory still open; `self.state` is the state it answers to."""
        state, adapter = self.state, self.state.adapter
        told = {TRUTH: adapter.truth(state.info), RECOGNIZED: dict(answer.recognized), **verdict}
        if self._rewards.shapes:
            told[ENVIRONMENT_REWARD] = reward
        episode_id = self._identity.episode_id(self.episode)
        return Step(
            trajectory_id=f"{episode_id}-{self._piece_start}",
            run_id=self._identity.run_id,
            worker_id=self._identity.worker_id,
            env_id=adapter.env_id,
            task=state.task,
            prompt_switches=adapter.switches.to_json(),
            reset_seed=self._env_seed,
            episode_id=episode_id,
            step=self.tally.steps,
            policy_version=sample.policy_version,
            adapter_digest=sample.adapter_digest,
            prompt_token_ids=sample.prompt_token_ids,
            frame_digests=tuple(f.digest for f in state.frames),
            response_token_ids=sample.token_ids,
            behavior_log_probs=sample.log_probs,
            token_roles=token_roles(sample.token_ids, self._encoder.decode),
            response_text=answer.text,
            action=answer.action,
            parse_status=answer.status,
            legal=answer.legal,
            reward=self._rewards.pay(reward, answer.recognized),
            terminated=end is EndReason.TERMINATED,
            truncated=end is EndReason.TRUNCATED,
            end_reason=EndReason.NONE,
            temperature=temperature,
            info=json.dumps(told),
            sample_s=sample_s,
            env_s=env_s,
        )

    def _random_legal(self, state: TaskState) -> str:
        return state.legal[int(self.draw("fallback").integers(len(state.legal)))]

    def _next_state(self) -> NextState:
        state = self.state
        return NextState(self._encoder.expand(state.prompt_token_ids, state.sizes), state.frames)

    def _abandon(self, error: Exception) -> EpisodeResult:
        """The environment failed: what was collected stays, bootstrapped from the last state it showed."""
        self.env_errors += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
            env_id = self.state.adapter.env_id
            raise EnvironmentFailed(
                f"{env_id} raised at {self._failures_in_a_row} steps in a row, last {type(error).__name__}: {error}",
                f"run `croupier check-env {env_id}`",
            ) from error
        if self.builder.is_open:
            self.builder.close(EndReason.ENV_ERROR, self._next_state())
        return self.tally.result(self.adapter, EndReason.ENV_ERROR, self.state.info, self._panel_seed)
