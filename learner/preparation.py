"""Everything that stays fixed while an update trains: targets, lambda, and log-probs of weights that do not move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from learner.algorithms.base import Algorithm
from learner.batching import collate
from learner.config import LearnerConfig
from learner.parallel.dealing import deal_passes
from learner.policy import Policy
from learner.rows import Rows
from learner.targets import Targets
from learner.thought_weights import ThoughtWeights


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """N rows' fixed numbers. Lists have one float32 [T] per row, None in rows that are not trained on."""

    targets: Targets
    thought_weights: torch.Tensor
    """float32 [N]: lambda."""
    start_log_probs: Sequence[np.ndarray | None] | None
    """Log-probs under the weights that the update starts from (the sampler's, in rows that are not to be corrected);
    None where no importance weight is wanted."""
    reference_log_probs: Sequence[np.ndarray | None] | None
    """Log-probs of the base model; None where no divergence from it is wanted."""


def prepare(
    policy: Policy,
    rows: Rows,
    config: LearnerConfig,
    algorithm: Algorithm,
    thought_weights: ThoughtWeights,
    policy_version: int,
) -> Prepared:
    """Run the passes without gradient that come before the first minibatch.

    Raises:
        TrajectoryError: The rows hold nothing that the algorithm can use.
    """
    targets = algorithm.estimate(policy, rows)
    budget = config.compute.micro_batch_tokens
    weights = thought_weights.of_rows(rows.components, rows.env_ids, policy_version)
    start = reference = None
    if config.correction.mode != "off":
        stale = rows.policy_versions[targets.trained_rows] != policy_version
        chosen = targets.trained_rows[stale] if config.correction.rows == "stale" else targets.trained_rows
        start = _filled(rows, targets.trained_rows, sampled_log_probs(policy, rows, chosen, budget))
    if config.ppo.reference_kl_coefficient > 0:
        with policy.adapter_off():
            reference = sampled_log_probs(policy, rows, targets.trained_rows, budget)
    return Prepared(targets, torch.from_numpy(weights), start, reference)


@torch.no_grad()
def sampled_log_probs(policy: Policy, rows: Rows, index: np.ndarray, token_budget: int) -> list[np.ndarray | None]:
    """Log-probs of the sampled tokens of the rows at `index` under the policy as it is: N entries, others None."""
    edges = np.cumsum([0, *(len(rows.responses[row]) for row in index)])
    spans = {row: slice(*edges[place : place + 2]) for place, row in enumerate(index.tolist())}
    # What other processes score is 0 here, and the sum is everybody's.
    flat = torch.zeros(int(edges[-1]))
    for part in deal_passes(policy.group, rows.lengths, index, token_budget, policy.backbone.state_of(rows)):
        log_probs = policy.log_probs(collate(rows, part.rows, policy.backbone.pad_id)).cpu()
        for place, row in enumerate(part.rows.tolist() if part.counts else ()):
            flat[spans[row]] = log_probs[place, : len(rows.responses[row])]
    policy.group.add_up([flat])
    found: list[np.ndarray | None] = [None] * len(rows)
    for row, span in spans.items():
        found[row] = flat[span].numpy()
    return found


def _filled(rows: Rows, index: np.ndarray, found: list[np.ndarray | None]) -> list[np.ndarray | None]:
    for row in index:
        if found[row] is None:
            found[row] = rows.behavior_log_probs[row]
    return found
