"""One environment with the episode that is going on in it.

A rollout worker owns many slots. A slot makes the sample request for its state, turns the sample into an action,
steps the environment and hands the row to its builder. Everything random in it is a function of (seed, slot, episode, step), so that
a slot is restored exactly from two small numbers and a list of actions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np

from actors.builder import NextState, SlotIdentity, TrajectoryBuilder
from actors.frames import FrameEncoder
from actors.parsing import parse_action, recognized
from actors.prompting import ImageSize, PromptEncoder
from actors.roles import token_roles
from actors.sampler import Sample, SampleRequest, SamplingParams
from envs.base import TaskAdapter
from protocol.episode import EpisodeResult
from protocol.errors import EnvironmentFailed, RequestRefused
from protocol.trajectory import EndReason, Frame, ParseStatus, Step

PURPOSES = ("reset", "sample", "fallback", "expert")
"""What a slot draws random numbers for; each use has its own stream."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotState:
    """What the policy is about to answer: the prompt and image of one state, and the truth behind it."""

    prompt_token_ids: tuple[int, ...]
    frames: tuple[Frame, ...]
    sizes: list[ImageSize]
    legal: tuple[str, ...]
    truth: Mapping[str, str]
    task: str
    info: Mapping[str, Any]


@dataclass(slots=True)
class EpisodeTally:
    """Running sums of the episode that is going on."""

    episode_return: float = 0.0
    steps: int = 0
    invalid_steps: int = 0
    recognized_steps: int = 0
    recognition_steps: int = 0

    def add(self, reward: float, *, legal: bool, recognized: bool, probed: bool) -> None:
        """Count one step."""
        self.episode_return += reward
        self.steps += 1
        self.invalid_steps += not legal
        self.recognized_steps += recognized
        self.recognition_steps += probed


MAX_CONSECUTIVE_FAILURES = 3
"""How many environment steps in a row may raise before the worker gives up."""


class EnvSlot:
    """An environment, its task adapter and the episode going on.

    Args:
        env: Any gymnasium environment of the task.
        adapter: The task adapter that puts it into words.
        encoder: Prompt text to token ids; shared by the slots of a worker.
        frame_encoder: Images to frames; shared by the slots of a worker.
        identity: Names and seed for the rows.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        adapter: TaskAdapter,
        encoder: PromptEncoder,
        frame_encoder: FrameEncoder,
        identity: SlotIdentity,
    ) -> None:
        self._env = env
        self.adapter = adapter
        self._encoder = encoder
        self._frame_encoder = frame_encoder
        self._identity = identity
        self.builder = TrajectoryBuilder()
        self.episode = -1
        self._actions: list[str] = []
        self._piece_start = 0
        self._reset_seed: int | None = None
        self._failures_in_a_row = 0
        self.env_errors = 0
        self.state: SlotState
        self.tally = EpisodeTally()

    def reset(self, seed: int | None = None) -> None:
        """Begin the next episode; `seed` overrides the slot's own seed for it (evaluation panels)."""
        self.episode += 1
        self._reset_seed = seed
        drawn = int(self.draw("reset").integers(2**31)) if seed is None else seed
        observation, info = self._env.reset(seed=drawn)
        self._actions = []
        self._piece_start = 0
        self.tally = EpisodeTally()
        self.state = self._describe(observation, info)

    def request(self, params: SamplingParams, policy_version: int, *, seeded: bool) -> SampleRequest:
        """The request that asks for a response to the current state."""
        return SampleRequest(
            prompt_token_ids=list(self.state.prompt_token_ids),
            images=tuple(f.data for f in self.state.frames),
            image_digests=tuple(f.digest for f in self.state.frames),
            params=params,
            policy_version=policy_version,
            seed=int(self.draw("sample").integers(2**31)) if seeded else None,
        )

    def apply(self, sample: Sample, temperature: float, sample_s: float = 0.0) -> EpisodeResult | None:
        """Take the sampled action and keep the row.

        Returns:
            The finished episode, or None while it goes on. The caller begins the next one with `reset`.

        Raises:
            RequestRefused: The server expanded the prompt into other tokens than this worker would.
            EnvironmentFailed: The environment raised at several steps in a row.
        """
        state = self.state
        self._check_prompt(sample)
        text = self._encoder.decode(sample.token_ids)
        parsed = parse_action(text, self.adapter.action_names or state.legal, state.legal)
        legal = parsed.status is ParseStatus.OK
        action = parsed.name if legal and parsed.name is not None else self._random_legal()
        right = bool(state.truth) and recognized(text, state.truth)
        began = time.perf_counter()
        try:
            observation, reward, terminated, truncated, info = self._env.step(
                self.adapter.env_action(action, state.info)
            )
        except Exception as error:  # a user's environment may raise anything; the episode ends as data
            return self._abandon(error)
        env_s = time.perf_counter() - began
        self._failures_in_a_row = 0
        # An environment that reports both has reached a terminal state: nothing lies beyond it to bootstrap from.
        truncated = bool(truncated) and not terminated
        row = Step(
            trajectory_id=f"{self._identity.episode_id(self.episode)}-{self._piece_start}",
            run_id=self._identity.run_id,
            worker_id=self._identity.worker_id,
            env_id=self.adapter.env_id,
            task=state.task,
            episode_id=self._identity.episode_id(self.episode),
            step=self.tally.steps,
            policy_version=sample.policy_version,
            adapter_digest=sample.adapter_digest,
            prompt_token_ids=sample.prompt_token_ids,
            frame_digests=tuple(f.digest for f in state.frames),
            response_token_ids=sample.token_ids,
            behavior_log_probs=sample.log_probs,
            token_roles=token_roles(sample.token_ids, self._encoder.decode),
            response_text=text,
            action=action,
            parse_status=parsed.status,
            legal=legal,
            reward=float(reward),
            terminated=bool(terminated),
            truncated=truncated,
            end_reason=EndReason.NONE,
            temperature=temperature,
            info=json.dumps({"truth": dict(state.truth), "recognized": right}),
            sample_s=sample_s,
            env_s=env_s,
        )
        self.builder.append(row, state.frames)
        self._actions.append(action)
        self.tally.add(float(reward), legal=legal, recognized=right, probed=bool(state.truth))
        if not terminated:
            self.state = self._describe(observation, info)
        if not (terminated or truncated):
            return None
        self.builder.close(
            EndReason.TERMINATED if terminated else EndReason.TRUNCATED, None if terminated else self._next_state()
        )
        return self._result(info, truncated=truncated)

    def cut(self) -> None:
        """Close the open trajectory at the batch boundary; the episode goes on in the next batch."""
        if self.builder.is_open:
            self.builder.close(EndReason.CUT, self._next_state())
            self._piece_start = self.tally.steps

    def state_dict(self) -> dict[str, Any]:
        """What it takes to restore the slot between two batches: plain JSON values."""
        return {"episode": self.episode, "actions": list(self._actions), "tally": asdict(self.tally)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Return to a saved point between two batches by playing the open episode's actions again."""
        self.episode = int(saved["episode"]) - 1
        self.reset()
        for action in saved["actions"]:
            observation, _, _, _, info = self._env.step(self.adapter.env_action(action, self.state.info))
            self._actions.append(action)
            self.state = self._describe(observation, info)
        self.tally = EpisodeTally(**saved["tally"])
        self._piece_start = self.tally.steps

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def draw(self, purpose: str) -> np.random.Generator:
        """Generator for one use at one step: nothing random outlives the step, so nothing random must be saved."""
        use = PURPOSES.index(purpose)
        step = 0 if purpose == "reset" else self.tally.steps
        return np.random.default_rng([self._identity.seed, self._identity.slot, self.episode, step, use])

    def _describe(self, observation: Any, info: Mapping[str, Any]) -> SlotState:
        image = self.adapter.image(observation, info)
        images = [] if image is None else [image]
        return SlotState(
            prompt_token_ids=self._encoder.encode(self.adapter.prompt(observation, info), len(images)),
            frames=tuple(self._frame_encoder.encode(i) for i in images),
            sizes=[(i.shape[0], i.shape[1]) for i in images],
            legal=tuple(self.adapter.legal_actions(info)),
            truth=self.adapter.recognition(info),
            task=self.adapter.task(info),
            info=dict(info),
        )

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

    def _random_legal(self) -> str:
        legal = self.state.legal
        return legal[int(self.draw("fallback").integers(len(legal)))]

    def _next_state(self) -> NextState:
        state = self.state
        return NextState(self._encoder.expand(state.prompt_token_ids, state.sizes), state.frames)

    def _result(
        self, info: Mapping[str, Any], *, truncated: bool = False, env_error: bool = False
    ) -> EpisodeResult:
        tally = self.tally
        return EpisodeResult(
            env_id=self.adapter.env_id,
            task=self.adapter.task(info),
            seed=self._reset_seed,
            episode_return=tally.episode_return,
            length_steps=tally.steps,
            success=not env_error and self.adapter.success(tally.episode_return, info),
            truncated=truncated,
            env_error=env_error,
            invalid_steps=tally.invalid_steps,
            recognized_steps=tally.recognized_steps,
            recognition_steps=tally.recognition_steps,
        )

    def _abandon(self, error: Exception) -> EpisodeResult:
        """The environment failed: what was collected stays, bootstrapped from the last state it showed."""
        self.env_errors += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
            raise EnvironmentFailed(
                f"{self.adapter.env_id} raised at {self._failures_in_a_row} steps in a row, "
                f"last {type(error).__name__}: {error}",
                f"run `croupier check-env {self.adapter.env_id}`",
            ) from error
        if self.builder.is_open:
            self.builder.close(EndReason.ENV_ERROR, self._next_state())
        return self._result(self.state.info, env_error=True)
