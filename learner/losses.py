"""The weighted log-prob of a response, policy and value losses, and their diagnostics: pure functions of tensors.

Letters: B rows, T response tokens. Losses are per row; the caller sums them and divides by the rows of the
whole minibatch, so that a split into microbatches changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        log_ratio: [B], new minus old log pi; or [B, T], token by token.
        advantages: [B], or anything that broadcasts to the shape of `log_ratio` without widening it.
        clip: half-width of the clip range.
        max_ratio: guard, or None.

    Returns:
        Shape of `log_ratio`.

    Raises:
        ValueError: The shapes broadcast to a third one. (RL4VLM's mini-batches above 1 did: ratios [B] times
            advantages [B, 1] made B x B losses.)
    """
    if torch.broadcast_shapes(log_ratio.shape, advantages.shape) != log_ratio.shape:
        raise ValueError(f"advantages {list(advantages.shape)} do not fit log-ratios {list(log_ratio.shape)}")
    ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()
    clamped = ratio.clamp(1 - clip, 1 + clip) * advantages
    surrogate = torch.minimum(ratio * advantages, clamped)
    if max_ratio is not None:
        surrogate = torch.where(ratio > max_ratio, clamped, surrogate)
    return -surrogate


def score_function_loss(log_pi: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """-A * log pi of each row, [B]: its gradient is REINFORCE's (Williams 1992), and its value says nothing.

    Right for rows of the current policy only: there is no ratio that could account for older ones.
    """
    return -advantages * log_pi


def token_weights(
    roles: torch.Tensor,
    response_mask: torch.Tensor,
    thought_weights: torch.Tensor,
    kind: Literal["all", "action", "thought_weight"],
) -> torch.Tensor:
    """Weight of each token in a token-level loss, float32 [B, T]; 0 at padding.

    Args:
        roles: int8 [B, T], `TokenRole`.
        response_mask: bool [B, T], True = a sampled token.
        thought_weights: lambda of each row, [B].
        kind: every sampled token 1; action tokens 1 and others 0; or action tokens 1, thought tokens lambda.
    """
    if kind == "all":
        return response_mask.float()
    action = (response_mask & (roles == TokenRole.ACTION)).float()
    if kind == "action":
        return action
    return action + thought_weights[:, None] * (response_mask & (roles == TokenRole.THOUGHT))


def reduce_tokens(losses: torch.Tensor, weights: torch.Tensor, reduction: Literal["mean", "sum"]) -> torch.Tensor:
    """Weighted sum [B] of token losses [B, T], or that sum divided by the sum of the weights (0 where that is 0)."""
    total = (losses * weights).sum(-1)
    if reduction == "sum":
        return total
    return total / weights.sum(-1).clamp(min=torch.finfo(weights.dtype).tiny)


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


def approximate_kl(other: torch.Tensor, sampled: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """Estimate of KL(sampled || other) of each response in nats, [B]; never negative.

    Sum over tokens of (r - 1) - log r with r = p_other / p_sampled, all roles alike (the estimator called k3,
    Schulman 2020). Taking the ratio per token keeps the variance far below that of one ratio per response.

    Args:
        other: [B, T] log-probs under the other policy.
        sampled: [B, T] log-probs of the same tokens under the policy that they were drawn from.
        response_mask: bool [B, T], True = a sampled token.
    """
    log_ratio = (other - sampled).clamp(max=MAX_LOG_RATIO)
    return ((log_ratio.exp() - 1 - log_ratio) * response_mask).sum(-1)


def score_energies(log_probs: torch.Tensor, collision_probs: torch.Tensor) -> torch.Tensor:
    """Squared norm of the gradient of each token's log-prob with respect to its logits, [B, T].

    d log p_y / d z = e_y - p, whose squared norm is 1 - 2 p_y + sum over v of p_v^2. (At temperature T the logits
    are divided by T, which multiplies every norm of a run by the same 1 / T^2.)

    Args:
        log_probs: [B, T] of the sampled tokens.
        collision_probs: [B, T], sum of p^2 of the distributions they were drawn from.
    """
    return 1 - 2 * log_probs.exp() + collision_probs


def span_energies(
    energies: torch.Tensor, roles: torch.Tensor, response_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies [B, T] summed over the thought and over the action tokens of each row: [B] and [B]."""
    thought = (energies * (response_mask & (roles == TokenRole.THOUGHT))).sum(-1)
    return thought, (energies * (response_mask & (roles == TokenRole.ACTION))).sum(-1)


RATIO_SHARES = ("clip_fraction", "ratio_outside_10_percent", "ratio_above_10", "ratio_below_0_1")
"""Names of the shares that `ratio_numbers` gives."""


@torch.no_grad()
def ratio_numbers(log_ratio: torch.Tensor, counted: torch.Tensor, *, clip: float) -> dict[str, torch.Tensor]:
    """What each row's importance ratios are like, float32 [B] by name, without gradient.

    `ratio_mean`, `ratio_min`, `ratio_max`, and the shares of its ratios beyond the clip range, beyond 10 percent, above
    10 and below 0.1. A row none of whose ratios count has ratio 1.

    Args:
        log_ratio: [B, R], R = 1 where a response has one ratio, else one for each token.
        counted: bool [B, R], True = a ratio that the loss weighs.
    """
    ratio = log_ratio.clamp(max=MAX_LOG_RATIO).masked_fill(~counted, 0.0).exp()
    total = counted.sum(-1).clamp(min=1)
    beyond = ((ratio - 1).abs() > clip, (ratio < 0.9) | (ratio > 1.1), ratio > 10, ratio < 0.1)
    nothing = ~counted.any(-1)
    return {
        "ratio_mean": torch.where(nothing, 1.0, (ratio * counted).sum(-1) / total),
        "ratio_min": ratio.masked_fill(~counted, torch.inf).amin(-1).where(~nothing, 1.0),
        "ratio_max": ratio.masked_fill(~counted, -torch.inf).amax(-1).where(~nothing, 1.0),
        **{name: share.sum(-1) / total for name, share in zip(RATIO_SHARES, beyond, strict=True)},
    }


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns); 0 where the returns do not vary."""
    variance = float(returns.var(correction=0))
    if variance == 0:
        return 0.0
    return 1.0 - float((returns - values).var(correction=0)) / variance
