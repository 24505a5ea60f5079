"""Checks of received rows that need the model: on top of `protocol.validation`, before anything is
admitted."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from learner.images import FrameProcessor
from protocol.codec import TrajectoryBatch, decode_frames
from protocol.errors import TrajectoryError
from protocol.validation import AdmissionRules, Rejection, validate

_PROMPTS = (
    ("prompt_token_ids", "frame_digests"),
    ("bootstrap_prompt_token_ids", "bootstrap_frame_digests"),
)


def screen(
    batch: TrajectoryBatch, rules: AdmissionRules, images: FrameProcessor, banned_token_ids: Collection[int]
) -> list[Rejection]:
    """One `Rejection` for every trajectory that may not be trained on.

    Beyond `protocol.validation.validate`: no banned id was sampled (its log-prob under the learner would be
    minus infinity), every frame is a readable image with the right digest, and each prompt holds exactly as
    many placeholders as its frames have image tokens.
    """
    rejected = {r.trajectory_id: r for r in validate(batch, rules)}
    for rejection in _banned(batch, banned_token_ids):
        rejected.setdefault(rejection.trajectory_id, rejection)
    for rejection in _images(batch, rules, images, skip=set(rejected)):
        rejected.setdefault(rejection.trajectory_id, rejection)
    return list(rejected.values())


def _banned(batch: TrajectoryBatch, banned_token_ids: Collection[int]) -> list[Rejection]:
    column = batch.steps.column("response_token_ids")
    found = _counts(column, np.isin(column.values.to_numpy(), list(banned_token_ids)))
    reason = "the response holds a token id that is banned from sampling"
    return [_rejection(batch, row, reason) for row in np.flatnonzero(found).tolist()]


def _images(
    batch: TrajectoryBatch, rules: AdmissionRules, images: FrameProcessor, skip: Collection[str]
) -> list[Rejection]:
    frames = decode_frames(batch.frames)
    ids = batch.steps.column("trajectory_id").to_pylist()
    found: list[Rejection] = []
    for prompt_name, frame_name in _PROMPTS:
        prompts = batch.steps.column(prompt_name)
        placeholders = _counts(prompts, prompts.values.to_numpy() == rules.image_token_id)
        for row, digests in enumerate(batch.steps.column(frame_name).to_pylist()):
            if ids[row] in skip:
                continue
            try:
                expected = images.image_tokens(digests or (), frames)
            except TrajectoryError as error:
                found.append(_rejection(batch, row, error.message))
                continue
            if placeholders[row] != expected:
                reason = f"{placeholders[row]} image placeholders for {expected} image tokens"
                found.append(_rejection(batch, row, f"{prompt_name} has {reason}"))
    return found


def _counts(column: pa.ListArray, flags: np.ndarray) -> np.ndarray:
    """Number of True among `flags` (one per flattened value) in each row, int64 [N]."""
    running = np.concatenate([[0], np.cumsum(flags)])
    offsets = column.offsets.to_numpy()
    return running[offsets[1:]] - running[offsets[:-1]]


def _rejection(batch: TrajectoryBatch, row: int, reason: str) -> Rejection:
    trajectory_id = batch.steps.column("trajectory_id")[row].as_py()
    return Rejection(trajectory_id, batch.steps.column("step")[row].as_py(), reason)
