"""Rows that the `transport` benchmark sends: the same steps as an Arrow batch and as plain Python objects."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

import envs
from actors.frames import FrameEncoder
from protocol.codec import TrajectoryBatch, encode
from protocol.trajectory import NO_DIGEST, EndReason, Frame, ParseStatus, Step

OURS, PNG, PICTURES, ARRAYS = FORMS = "Arrow", "objects with PNG", "objects with pictures", "objects with arrays"
"""How rows travel. Objects are lists of dataclasses, pickled by Ray: with lists of numbers and PNG bytes, with lists
of numbers and PIL images, with numpy arrays for numbers and pixels."""

FRAMES = "frame column"
"""The Arrow batch's frames alone."""

CARDS, ROOMS = "cards", "rooms"

PROMPT_TOKENS, RESPONSE_TOKENS, EPISODE_STEPS = 400, 60, 8
_SIDE, _PATCHES, _GRAIN = 300, 20, 2.0


@dataclass(frozen=True)
class Case:
    """What is sent."""

    pictures: str
    """`CARDS`: states of Points24, of which some come again. `ROOMS`: pictures as large as those of a rendered room,
    every one another."""
    rows: int

    @property
    def name(self) -> str:
        """As in the tables."""
        return f"{self.pictures}, {self.rows} rows"


@dataclass
class ObjectRow:
    """What the learner reads of a step, as a plain object."""

    trajectory_id: str
    env_id: str
    task: str
    episode_id: str
    step: int
    policy_version: int
    prompt_token_ids: Any
    response_token_ids: Any
    behavior_log_probs: Any
    token_roles: Any
    response_text: str
    action: str
    legal: bool
    reward: float
    terminated: bool
    truncated: bool
    end_reason: str
    temperature: float
    image: Any


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """The rows of a case, before they are packed for the journey."""

    steps: list[Step]
    frames: list[Frame]
    """One per step; equal pictures are equal frames."""

    def batch(self) -> TrajectoryBatch:
        """As our workers pack them."""
        return encode(self.steps, self.frames)

    def objects(self, form: str) -> list[ObjectRow]:
        """As plain objects; every row has a picture of its own, as when nobody looks for equal ones."""
        return [_object(form, step, frame) for step, frame in zip(self.steps, self.frames, strict=True)]


def build_world(case: Case, seed: int = 0) -> World:
    """Rows with that case's pictures; token ids are random."""
    rng = np.random.default_rng(seed)
    encoder = FrameEncoder()
    drawn = _cards(rng) if case.pictures == CARDS else _rooms(rng)
    frames = [encoder.encode(picture) for picture in islice(drawn, case.rows)]
    return World([_step(row, case.rows, frame, rng) for row, frame in enumerate(frames)], frames)


def _cards(rng: np.random.Generator) -> Iterator[np.ndarray]:
    env, adapter = envs.make("gym_cards/Points24-v0")
    while True:
        observation, info = env.reset(seed=int(rng.integers(2**31)))
        ended = False
        while not ended:
            yield adapter.query(observation, info).images[-1]
            action = rng.choice(np.array(adapter.legal_actions(info)))
            observation, _, terminated, truncated, info = env.step(adapter.env_action(str(action), info))
            ended = terminated or truncated


def _rooms(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Soft colours under a fine grain: about 170 kB as PNG."""
    while True:
        colours = Image.fromarray(rng.integers(0, 256, (_PATCHES, _PATCHES, 3), dtype=np.uint8))
        soft = np.asarray(colours.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), dtype=np.float64)
        yield np.clip(soft + rng.normal(0.0, _GRAIN, soft.shape), 0, 255).astype(np.uint8)


def _step(row: int, rows: int, frame: Frame, rng: np.random.Generator) -> Step:
    last = row % EPISODE_STEPS == EPISODE_STEPS - 1 or row == rows - 1
    episode = f"worker-0-{row // EPISODE_STEPS}"
    return Step(
        trajectory_id=episode,
        run_id="bench",
        worker_id="worker-0",
        env_id="bench/Transport-v0",
        task="",
        prompt_switches="{}",
        reset_seed=row // EPISODE_STEPS,
        episode_id=episode,
        step=row % EPISODE_STEPS,
        policy_version=0,
        adapter_digest=NO_DIGEST,
        prompt_token_ids=rng.integers(0, 30_000, PROMPT_TOKENS, dtype=np.int32),
        frame_digests=(frame.digest,),
        response_token_ids=rng.integers(0, 30_000, RESPONSE_TOKENS, dtype=np.int32),
        behavior_log_probs=-rng.random(RESPONSE_TOKENS, dtype=np.float32),
        token_roles=np.zeros(RESPONSE_TOKENS, dtype=np.int8),
        response_text='{"thoughts": "' + 150 * "x" + '", "action": "+"}',
        action="+",
        parse_status=ParseStatus.OK,
        legal=True,
        reward=float(last),
        terminated=last,
        truncated=False,
        end_reason=EndReason.TERMINATED if last else EndReason.NONE,
        temperature=1.0,
    )


def _object(form: str, step: Step, frame: Frame) -> ObjectRow:
    numbers = (step.prompt_token_ids, step.response_token_ids, step.behavior_log_probs, step.token_roles)
    prompt, response, log_probs, roles = numbers if form == ARRAYS else (array.tolist() for array in numbers)
    return ObjectRow(
        trajectory_id=step.trajectory_id,
        env_id=step.env_id,
        task=step.task,
        episode_id=step.episode_id,
        step=step.step,
        policy_version=step.policy_version,
        prompt_token_ids=prompt,
        response_token_ids=response,
        behavior_log_probs=log_probs,
        token_roles=roles,
        response_text=step.response_text,
        action=step.action,
        legal=step.legal,
        reward=step.reward,
        terminated=step.terminated,
        truncated=step.truncated,
        end_reason=step.end_reason.value,
        temperature=step.temperature,
        image=_image(form, frame.data),
    )


def _image(form: str, data: bytes) -> Any:
    if form == PNG:
        return bytes(bytearray(data))  # a copy: pickle sends one object once, however often it is named
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return np.array(picture) if form == ARRAYS else picture
