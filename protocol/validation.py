"""The reader's half of the contract: which trajectories of a received batch may be trained on.

The learner calls `validate` on every batch. A trajectory with one bad row is refused as a whole, because advantages
need its rows without a gap; the others of the batch go on. What was refused comes back with a reason, to be counted
and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from protocol.codec import TrajectoryBatch
from protocol.trajectory import EndReason, TokenRole


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """What the learner knows and a row must agree with."""

    vocab_size: int
    """Token ids must be in [0, vocab_size)."""
    image_token_id: int
    """The placeholder id; it must never be sampled."""
    published: Mapping[int, bytes]
    """Digest of every policy version that the learner published."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused trajectory: the first bad row, and why."""

    trajectory_id: str
    step: int
    reason: str


def validate(batch: TrajectoryBatch, rules: AdmissionRules) -> list[Rejection]:
    """Return one `Rejection` for every trajectory of the batch that may not be trained on.

    Checked: equal list lengths, finite log-probs not above 0, finite rewards, ids inside the vocabulary, no sampled
    image placeholder, known token roles, published digest, frames present, rows without a gap, and an end that
    agrees with terminated / truncated / bootstrap.
    """
    steps = batch.steps
    if steps.num_rows == 0:
        return []
    reasons: dict[int, str] = {}
    for bad_rows, reason in (
        *_list_checks(steps, rules),
        *_scalar_checks(steps, rules),
        *_frame_checks(batch),
        *_sequence_checks(steps),
    ):
        for row in np.flatnonzero(bad_rows):
            reasons.setdefault(int(row), reason)
    ids = steps.column("trajectory_id").to_pylist()
    step_index = steps.column("step").to_numpy()
    rejected: dict[str, Rejection] = {}
    for row in sorted(reasons):
        rejected.setdefault(ids[row], Rejection(ids[row], int(step_index[row]), reasons[row]))
    return list(rejected.values())


def _row_of_value(column: pa.ListArray, bad_values: np.ndarray) -> np.ndarray:
    """Rows [N] that hold at least one True of `bad_values` (one flag per flattened list value)."""
    counts = np.concatenate([[0], np.cumsum(bad_values)])
    offsets = column.offsets.to_numpy()
    return counts[offsets[1:]] > counts[offsets[:-1]]


def _lengths(column: pa.ListArray) -> np.ndarray:
    return np.diff(column.offsets.to_numpy())


def _list_checks(steps: pa.RecordBatch, rules: AdmissionRules) -> list[tuple[np.ndarray, str]]:
    response, log_probs, roles = (
        steps.column(name) for name in ("response_token_ids", "behavior_log_probs", "token_roles")
    )
    unequal = (_lengths(response) != _lengths(log_probs)) | (_lengths(response) != _lengths(roles))
    log_prob_values = log_probs.values.to_numpy()
    role_values = roles.values.to_numpy()
    checks = [
        (unequal, "response_token_ids, behavior_log_probs and token_roles differ in length"),
        (_lengths(response) == 0, "empty response"),
        (_row_of_value(log_probs, ~np.isfinite(log_prob_values)), "behavior_log_probs hold a NaN or an infinity"),
        (_row_of_value(log_probs, log_prob_values > 1e-3), "behavior_log_probs above 0: not log-probabilities"),
        (_row_of_value(roles, ~np.isin(role_values, [r.value for r in TokenRole])), "unknown token role"),
        (
            _row_of_value(response, response.values.to_numpy() == rules.image_token_id),
            "the response holds the image placeholder id, which must be banned from sampling",
        ),
    ]
    for name in ("prompt_token_ids", "response_token_ids", "bootstrap_prompt_token_ids"):
        column = steps.column(name)
        values = column.values.to_numpy()
        outside = (values < 0) | (values >= rules.vocab_size)
        checks.append((_row_of_value(column, outside), f"{name} outside the vocabulary of {rules.vocab_size}"))
    return checks


def _scalar_checks(steps: pa.RecordBatch, rules: AdmissionRules) -> list[tuple[np.ndarray, str]]:
    digests = steps.column("adapter_digest").to_pylist()
    versions = steps.column("policy_version").to_pylist()
    foreign = np.array([rules.published.get(v) != d for v, d in zip(versions, digests, strict=True)])
    return [
        (~np.isfinite(steps.column("reward").to_numpy()), "reward is not finite"),
        (foreign, "policy_version and adapter_digest name no adapter that this learner published"),
    ]


def _frame_checks(batch: TrajectoryBatch) -> list[tuple[np.ndarray, str]]:
    present = set(batch.frames.column("digest").to_pylist())
    missing = [
        any(d not in present for d in (*row, *(boot or ())))
        for row, boot in zip(
            batch.steps.column("frame_digests").to_pylist(),
            batch.steps.column("bootstrap_frame_digests").to_pylist(),
            strict=True,
        )
    ]
    return [(np.array(missing), "a frame named by the row is not in the batch")]


def _sequence_checks(steps: pa.RecordBatch) -> list[tuple[np.ndarray, str]]:
    """Rows of one trajectory are contiguous, count up by one, and only the last has an end reason."""
    ids = pc.dictionary_encode(steps.column("trajectory_id")).indices.to_numpy()
    index = steps.column("step").to_numpy()
    end = steps.column("end_reason").to_numpy(zero_copy_only=False)
    terminated = steps.column("terminated").to_numpy(zero_copy_only=False)
    truncated = steps.column("truncated").to_numpy(zero_copy_only=False)
    last = np.append(ids[1:] != ids[:-1], True)
    first = np.insert(last[:-1], 0, True)
    gap = ~first & (index != np.insert(index[:-1] + 1, 0, 0))
    reopened = np.zeros(len(ids), dtype=bool)
    seen: set[int] = set()
    for row in np.flatnonzero(first):
        reopened[row] = int(ids[row]) in seen
        seen.add(int(ids[row]))
    needs = np.isin(end, [e.value for e in EndReason if e.needs_bootstrap])
    has = steps.column("bootstrap_prompt_token_ids").is_valid().to_numpy(zero_copy_only=False)
    known = np.isin(end, [e.value for e in EndReason])
    return [
        (~known, "unknown end_reason"),
        (gap | reopened, "the rows of a trajectory are not contiguous"),
        (last == (end == EndReason.NONE.value), "end_reason and the position in the trajectory disagree"),
        (terminated != (end == EndReason.TERMINATED.value), "terminated and end_reason disagree"),
        (truncated != (end == EndReason.TRUNCATED.value), "truncated and end_reason disagree"),
        (needs != has, "bootstrap state and end_reason disagree"),
    ]
