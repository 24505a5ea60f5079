"""The reader's half of the contract: which trajectories of a received batch may be trained on.

The learner calls `validate` on every batch. A trajectory with one bad row is refused as a whole, because
advantages need its rows without a gap; the others of the batch go on. What was refused comes back with a
reason, to be counted and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from protocol.codec import TrajectoryBatch
from protocol.trajectory import EndReason, TokenRole

LOG_PROB_SLACK = 1e-3
"""How far above 0 rounding may lift a log-prob (nats)."""

Check = tuple[np.ndarray, str]
"""Bad rows, bool [N], and what is wrong with them."""


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

    Checked: equal list lengths, nothing empty, finite log-probs not above 0, finite rewards and temperatures,
    ids inside the vocabulary, no sampled image placeholder, known token roles, published digest, frames present,
    rows without a gap, and an end that agrees with terminated / truncated / bootstrap.
    """
    steps = batch.steps
    if steps.num_rows == 0:
        return []
    reasons: dict[int, str] = {}
    for bad_rows, reason in (
        *_response_checks(steps, rules),
        *_prompt_checks(steps),
        *_vocabulary_checks(steps, rules),
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


def _present(column: pa.ListArray) -> np.ndarray:
    return column.is_valid().to_numpy(zero_copy_only=False)


def _response_checks(steps: pa.RecordBatch, rules: AdmissionRules) -> list[Check]:
    response, log_probs, roles = (
        steps.column(name) for name in ("response_token_ids", "behavior_log_probs", "token_roles")
    )
    unequal = (_lengths(response) != _lengths(log_probs)) | (_lengths(response) != _lengths(roles))
    values = log_probs.values.to_numpy()
    unknown_roles = ~np.isin(roles.values.to_numpy(), list(TokenRole))
    placeholders = response.values.to_numpy() == rules.image_token_id
    return [
        (unequal, "response_token_ids, behavior_log_probs and token_roles differ in length"),
        (_lengths(response) == 0, "empty response"),
        (_row_of_value(log_probs, ~np.isfinite(values)), "behavior_log_probs hold a NaN or an infinity"),
        (_row_of_value(log_probs, values > LOG_PROB_SLACK), "behavior_log_probs above 0: no log-probabilities"),
        (_row_of_value(roles, unknown_roles), "unknown token role"),
        (
            _row_of_value(response, placeholders),
            "the response holds the image placeholder id, which must be banned from sampling",
        ),
    ]


def _prompt_checks(steps: pa.RecordBatch) -> list[Check]:
    prompt, bootstrap = steps.column("prompt_token_ids"), steps.column("bootstrap_prompt_token_ids")
    return [
        (_lengths(prompt) == 0, "empty prompt"),
        (_present(bootstrap) & (_lengths(bootstrap) == 0), "empty bootstrap prompt"),
    ]


def _vocabulary_checks(steps: pa.RecordBatch, rules: AdmissionRules) -> list[Check]:
    checks = []
    for name in ("prompt_token_ids", "response_token_ids", "bootstrap_prompt_token_ids"):
        column = steps.column(name)
        values = column.values.to_numpy()
        outside = _row_of_value(column, (values < 0) | (values >= rules.vocab_size))
        checks.append((outside, f"{name} outside the vocabulary of {rules.vocab_size}"))
    return checks


def _scalar_checks(steps: pa.RecordBatch, rules: AdmissionRules) -> list[Check]:
    digests = steps.column("adapter_digest").to_pylist()
    versions = steps.column("policy_version").to_pylist()
    foreign = np.array([rules.published.get(v) != d for v, d in zip(versions, digests, strict=True)])
    temperature = steps.column("temperature").to_numpy()
    return [
        (~np.isfinite(steps.column("reward").to_numpy()), "reward is not finite"),
        (~(np.isfinite(temperature) & (temperature >= 0)), "temperature is below 0 or not finite"),
        (foreign, "policy_version and adapter_digest name no adapter that this learner published"),
    ]


def _frame_checks(batch: TrajectoryBatch) -> list[Check]:
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


def _sequence_checks(steps: pa.RecordBatch) -> list[Check]:
    """Rows of one trajectory are contiguous, count up by one, and only the last has an end reason."""
    ids = steps.column("trajectory_id").dictionary_encode().indices.to_numpy()
    index = steps.column("step").to_numpy()
    last = np.append(ids[1:] != ids[:-1], True)
    first = np.insert(last[:-1], 0, True)
    gap = ~first & (index != np.insert(index[:-1] + 1, 0, 0))
    # A trajectory that has more than one first row was taken up again behind another one.
    _, earliest = np.unique(ids, return_index=True)
    reopened = first & ~np.isin(np.arange(len(ids)), earliest)
    end = steps.column("end_reason").to_numpy(zero_copy_only=False)
    return [
        (gap | reopened, "the rows of a trajectory are not contiguous"),
        (last == (end == EndReason.NONE.value), "end_reason and the position in the trajectory disagree"),
        *_end_checks(steps, end),
    ]


def _end_checks(steps: pa.RecordBatch, end: np.ndarray) -> list[Check]:
    """`end`: the column of end reasons, object [N]."""
    terminated = steps.column("terminated").to_numpy(zero_copy_only=False)
    truncated = steps.column("truncated").to_numpy(zero_copy_only=False)
    needs = np.isin(end, [e.value for e in EndReason if e.needs_bootstrap])
    has = _present(steps.column("bootstrap_prompt_token_ids"))
    return [
        (~np.isin(end, [e.value for e in EndReason]), "unknown end_reason"),
        (terminated != (end == EndReason.TERMINATED.value), "terminated and end_reason disagree"),
        (truncated != (end == EndReason.TRUNCATED.value), "truncated and end_reason disagree"),
        (needs != has, "bootstrap state and end_reason disagree"),
    ]
