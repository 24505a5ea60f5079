"""Judges a freshly loaded adapter by its canaries: does this server compute what the learner computes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocol.adapter import Canary
from protocol.errors import AdapterRejected


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """Evidence that goes into the acknowledgement."""

    max_abs_error: float
    """Largest |server - learner| over all canary tokens, adapter on (nats)."""
    base_gap: float
    """Largest |adapter on - adapter off| on this server (nats)."""


def judge_canaries(
    policy_version: int,
    canaries: Sequence[Canary],
    adapter_scores: Sequence[np.ndarray],
    base_scores: Sequence[np.ndarray],
    tolerance: float,
) -> CanaryVerdict:
    """Compares the server's log-probs, float32 [T] per canary, with the learner's.

    The base model is compared first: when the two sides hold different base models, no adapter can be right. Where
    the learner itself sees adapter and base more than twice the tolerance apart, the server must see them apart as
    well, otherwise it answers with the base model.

    Raises:
        AdapterRejected: naming the difference, the tolerance and the likely cause.
    """
    base_error = _largest_gap([c.base_log_probs for c in canaries], base_scores)
    if not base_error <= tolerance:
        raise AdapterRejected(
            f"policy version {policy_version}: without any adapter the server is {base_error:.3g} nats from the "
            f"learner (tolerance {tolerance:g}).",
            "load the same base model in the same dtype on both sides, or raise canary_tolerance",
        )
    verdict = CanaryVerdict(
        max_abs_error=_largest_gap([c.log_probs for c in canaries], adapter_scores),
        base_gap=_largest_gap(adapter_scores, base_scores),
    )
    learner_gap = max(canary.base_gap for canary in canaries)
    if learner_gap > 2 * tolerance and not verdict.base_gap > tolerance:
        raise AdapterRejected(
            f"policy version {policy_version}: the server's answer is {verdict.base_gap:.3g} nats from the base "
            f"model's, the learner's is {learner_gap:.3g}: the adapter is not in effect.",
            "check the adapter's tensor names against the served architecture",
        )
    if not verdict.max_abs_error <= tolerance:
        raise AdapterRejected(
            f"policy version {policy_version}: the canary is {verdict.max_abs_error:.3g} nats from the learner's "
            f"log-probs (tolerance {tolerance:g}).",
            "check that the weights are those the learner scored with, or raise canary_tolerance",
        )
    return verdict


def _largest_gap(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Largest absolute difference; NaN where any value is NaN, so that no comparison with it passes."""
    gaps = []
    for ours, theirs in zip(left, right, strict=True):
        if len(ours) != len(theirs):
            raise AdapterRejected(f"a canary has {len(ours)} log-probs for {len(theirs)} response tokens.")
        gaps.append(np.max(np.abs(np.asarray(ours, np.float32) - np.asarray(theirs, np.float32)), initial=0.0))
    return float(np.max(gaps))
