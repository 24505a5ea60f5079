"""The weighted log-prob of a response, PPO's losses and their diagnostics: pure functions of tensors.

Letters: B rows, T response tokens. Losses are per row; the caller sums them and divides by the rows of the
whole minibatch, so that a split into microbatches changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from protocol.trajectory import TokenRole

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut here (nats) before exp, which otherwise overflows and turns masked gradients into
NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class ResponseLogProbs:
    """Summed log-probs of B responses, float32 [B] each."""

    weighted: torch.Tensor
    """thought_weight * thought + action: what PPO calls log pi."""
    thought: torch.Tensor
    action: torch.Tensor


def response_log_probs(
    log_probs: torch.Tensor,
    roles: torch.Tensor,
    response_mask: torch.Tensor,
    thought_weight: float | torch.Tensor,
) -> ResponseLogProbs:
    """log pi = lambda * sum(thought) + sum(action) (RL4VLM, arXiv 2405.10292, section 4).

    Deviations from its code: spans come from the roles on the wire instead of a search for token ids; sums
    are in float32 instead of bfloat16; no opening tokens are dropped by position and no constants stand in
    for short responses. Format tokens are in neither sum.

    Args:
        log_probs: [B, T].
        roles: int8 [B, T], `TokenRole`.
        response_mask: bool [B, T], True = a sampled token.
        thought_weight: lambda, one number or one per row [B].
    """
    log_probs = log_probs.float()
    thought = (log_probs * (response_mask & (roles == TokenRole.THOUGHT))).sum(-1)
    action = (log_probs * (response_mask & (roles == TokenRole.ACTION))).sum(-1)
    return ResponseLogProbs(thought_weight * thought + action, thought, action)


def policy_loss(
    log_ratio: torch.Tensor, advantages: torch.Tensor, *, clip: float, max_ratio: float | None
) -> torch.Tensor:
    """Clipped surrogate of each row, to be minimised (PPO, arXiv 1707.06347, equation 7).

    -min(ratio * A, clamp(ratio, 1 - clip, 1 + clip) * A) with ratio = exp(log_ratio). Rows whose ratio
    exceeds `max_ratio` keep the clamped term alone, whose gradient is 0: RL4VLM's guard, which there drops
    the whole microbatch when one of its rows is beyond 10 (its microbatches had one row).

    Args:
        log_ratio: [B], new minus behaviour log pi.
        advantages: [B].
        clip: half-width of the clip range.
        max_ratio: guard, or None.

    Returns:
        [B].
    """
    ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()
    clamped = ratio.clamp(1 - clip, 1 + clip) * advantages
    surrogate = torch.minimum(ratio * advantages, clamped)
    if max_ratio is not None:
        surrogate = torch.where(ratio > max_ratio, clamped, surrogate)
    return -surrogate


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, *, value_clip: float | None
) -> torch.Tensor:
    """Half the squared error of each row, [B].

    With `value_clip`, the larger of that and the error of old_value + clamp(value - old_value, +-value_clip),
    as in RL4VLM (always on there, at 0.1: once a value has moved that far its gradient is 0).
    """
    error = (values - returns).square()
    if value_clip is not None:
        near = old_values + (values - old_values).clamp(-value_clip, value_clip)
        error = torch.maximum(error, (near - returns).square())
    return 0.5 * error


def approximate_kl(new: torch.Tensor, behavior: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Estimate of KL(behaviour || new) of each response in nats, [B]; never negative.

    Sum over tokens of (r - 1) - log r with r = p_new / p_behavior, all roles alike. Taking the ratio per
    token keeps the variance far below that of one ratio per response.

    Args:
        new: [B, T] log-probs.
        behavior: [B, T] log-probs of the same tokens when they were sampled.
        response_mask: bool [B, T], True = a sampled token.
    """
    log_ratio = (new - behavior).clamp(max=MAX_LOG_RATIO)
    return ((log_ratio.exp() - 1 - log_ratio) * response_mask).sum(-1)


def ratio_metrics(log_ratio: torch.Tensor, *, clip: float) -> dict[str, float]:
    """Statistics of the importance ratios of rows [B], B >= 1."""
    ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()
    return {
        "ratio_mean": float(ratio.mean()),
        "ratio_min": float(ratio.min()),
        "ratio_max": float(ratio.max()),
        "clip_fraction": float(((ratio - 1).abs() > clip).float().mean()),
        "ratio_outside_10_percent": float(((ratio < 0.9) | (ratio > 1.1)).float().mean()),
        "ratio_above_10": float((ratio > 10).float().mean()),
    }


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns); 0 where the returns do not vary."""
    variance = float(returns.var(correction=0))
    if variance == 0:
        return 0.0
    return 1.0 - float((returns - values).var(correction=0)) / variance
