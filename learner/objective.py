"""The loss of a few rows, put together from its terms, and the numbers that each row contributes to the metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from learner.algorithms.base import Algorithm, ScoredRows
from learner.batching import TokenBatch, collate, pad_right
from learner.config import LearnerConfig
from learner.importance import is_outside
from learner.losses import (
    MAX_LOG_RATIO,
    approximate_kl,
    ratio_numbers,
    reduce_tokens,
    response_log_probs,
    score_energies,
    span_energies,
    value_loss,
)
from learner.policy import Evaluation, Policy
from learner.preparation import Prepared
from learner.rows import Rows

RowNumbers = dict[str, torch.Tensor]
"""Detached numbers by name, float32 [B] each, on the CPU; `index`, int64 [B], says which rows."""


def join_numbers(parts: Sequence[RowNumbers]) -> RowNumbers:
    """Numbers of several passes one after another."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


class Objective:
    """loss = policy + value_coefficient * value + kl_coefficient * KL(policy || base) - entropy_coefficient * H.

    Args:
        policy: what is scored.
        config: coefficients.
        algorithm: gives the policy loss, and says whether there is a critic.
        measures_energies: whether gradient energies of thought and action spans are among the numbers.
    """

    def __init__(self, policy: Policy, config: LearnerConfig, algorithm: Algorithm, *, measures_energies: bool) -> None:
        self._policy = policy
        self._config = config
        self._ppo = config.ppo
        self._algorithm = algorithm
        self._measures_energies = measures_energies
        self._corrects = config.correction.mode not in ("off", "metrics")

    def losses(self, rows: Rows, prepared: Prepared, group: np.ndarray) -> tuple[torch.Tensor, RowNumbers]:
        """Loss summed over the rows of `group` (a scalar with gradient), and the rows' numbers."""
        device = self._policy.backbone.device
        batch = collate(rows, group, self._policy.backbone.pad_id).to(device)
        behavior = _padded([rows.behavior_log_probs[i] for i in group], device)
        start = None
        if prepared.start_log_probs is not None:
            start = _padded([prepared.start_log_probs[i] for i in group], device)
        index = torch.from_numpy(group)
        evaluation = self._policy.evaluate(
            batch, entropies=self._ppo.entropy_coefficient > 0, collision_probs=self._measures_energies
        )
        roles = pad_right([rows.roles[i] for i in group], np.dtype(np.int8))[0].to(device)
        weights = prepared.thought_weights[index].to(device)
        scored = self._scored(evaluation, behavior, start, roles, batch.response_mask, weights)
        advantages = prepared.targets.advantages[index].to(device)
        policy = self._algorithm.policy_loss(scored, advantages)
        value, numbers = self._value_term(evaluation, prepared, index)
        loss = policy if value is None else policy + self._ppo.value_coefficient * value
        loss, more = self._regularised(loss, evaluation, prepared, batch, group)
        numbers |= more
        numbers |= {"loss": loss, "policy_loss": policy} | _span_numbers(scored) | _sampler_numbers(scored, behavior)
        numbers |= ratio_numbers(*self._algorithm.policy_loss.log_ratios(scored), clip=self._ppo.clip)
        if start is not None:
            numbers |= self._importance_numbers(scored, start - behavior)
        if evaluation.tokens.collision_probs is not None:
            energies = score_energies(scored.log_probs.detach(), evaluation.tokens.collision_probs)
            spans = span_energies(energies, roles, batch.response_mask)
            numbers |= dict(zip(("thought_energy", "action_energy"), spans, strict=True))
        # One transfer, not one per number: each would wait for the device.
        stacked = torch.stack([number.detach() for number in numbers.values()]).cpu()
        return loss.sum(), dict(zip(numbers, stacked, strict=True)) | {"index": index}

    def _scored(
        self,
        evaluation: Evaluation,
        behavior: torch.Tensor,
        start: torch.Tensor | None,
        roles: torch.Tensor,
        response_mask: torch.Tensor,
        weights: torch.Tensor,
    ) -> ScoredRows:
        log_probs, old, log_weights = evaluation.tokens.log_probs, behavior, None
        if start is not None and self._corrects:
            old, log_weights = start, start - behavior
        return ScoredRows(
            log_probs=log_probs,
            old_log_probs=old,
            log_weights=log_weights,
            roles=roles,
            response_mask=response_mask,
            thought_weights=weights,
            new=response_log_probs(log_probs, roles, response_mask, weights),
            old=response_log_probs(old, roles, response_mask, weights),
        )

    def _value_term(
        self, evaluation: Evaluation, prepared: Prepared, index: torch.Tensor
    ) -> tuple[torch.Tensor | None, RowNumbers]:
        targets, device = prepared.targets, evaluation.values.device
        if targets.old_values is None:
            return None, {}
        old_values, returns = targets.old_values[index].to(device), targets.returns[index].to(device)
        value = value_loss(evaluation.values, old_values, returns, value_clip=self._ppo.value_clip)
        return value, {"value_loss": value}

    def _regularised(
        self, loss: torch.Tensor, evaluation: Evaluation, prepared: Prepared, batch: TokenBatch, group: np.ndarray
    ) -> tuple[torch.Tensor, RowNumbers]:
        """The loss with its KL and entropy terms, both in nats per token, and these terms."""
        terms: RowNumbers = {}
        tokens, mask = evaluation.tokens, batch.response_mask
        if prepared.reference_log_probs is not None:
            reference = _padded([prepared.reference_log_probs[i] for i in group], tokens.log_probs.device)
            terms["reference_kl"] = approximate_kl(reference, tokens.log_probs, mask) / mask.sum(-1)
            loss = loss + self._ppo.reference_kl_coefficient * terms["reference_kl"]
        if tokens.entropies is not None:
            terms["entropy"] = reduce_tokens(tokens.entropies, mask.float(), "mean")
            loss = loss - self._ppo.entropy_coefficient * terms["entropy"]
        return loss, terms

    def _importance_numbers(self, scored: ScoredRows, log_weights: torch.Tensor) -> RowNumbers:
        mask, threshold = scored.response_mask, self._config.correction.threshold
        sums = response_log_probs(log_weights, scored.roles, mask, scored.thought_weights)
        responses = sums.weighted.clamp(max=MAX_LOG_RATIO).exp()
        tokens_outside = is_outside(log_weights.exp(), threshold).float()
        return {
            "importance_weight": responses,
            "importance_responses_outside": is_outside(responses, threshold).float(),
            "importance_tokens_outside": reduce_tokens(tokens_outside, mask.float(), "mean"),
        }


def _padded(arrays: Sequence[np.ndarray | None], device: torch.device) -> torch.Tensor:
    """Log-probs of trained rows, float32 [B, T]."""
    return pad_right([a for a in arrays if a is not None], np.dtype(np.float32))[0].to(device)


def _span_numbers(scored: ScoredRows) -> RowNumbers:
    return {
        "kl": approximate_kl(scored.log_probs, scored.old_log_probs, scored.response_mask),
        "thought": scored.new.thought,
        "action": scored.new.action,
        "thought_weight": scored.thought_weights,
    }


def _sampler_numbers(scored: ScoredRows, behavior: torch.Tensor) -> RowNumbers:
    """Fit of sampler and learner: the ratio of log pi, and |log-prob - behaviour log-prob| over tokens, in nats."""
    gap = (scored.log_probs - behavior).abs() * scored.response_mask
    sums = scored.old
    if scored.old_log_probs is not behavior:
        sums = response_log_probs(behavior, scored.roles, scored.response_mask, scored.thought_weights)
    return {
        "sampler_log_ratio": scored.new.weighted - sums.weighted,
        "gap_sum": gap.sum(-1),
        "gap_max": gap.amax(-1),
    }
