"""Advantages with a critic and without: pure functions of tensors (critic) and of numpy arrays (episodes)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_EPSILON = 1e-5
"""Added to every standard deviation that divides, as in RL4VLM."""


def generalized_advantages(
    rewards: torch.Tensor,
    values: torch.Tensor,
    last_rows: Sequence[int],
    bootstrap_values: torch.Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns of every row (arXiv 1506.02438, equations 11, 12 and 16).

    delta_t = r_t + gamma * V(s_{t+1}) - V(s_t);  A_t = delta_t + gamma * lambda * A_{t+1};  return_t = A_t +
    V(s_t). The recursion never crosses the end of a trajectory. What follows the last row is
    `bootstrap_values`: 0 where the episode terminated, the value of the real next state where it was
    truncated, cut or failed. (RL4VLM treats a truncation like a termination and bootstraps from a wrong
    prompt; here the row carries the next state.)

    Args:
        rewards: [N], the rows of B trajectories one after another.
        values: [N], the critic's, without gradient.
        last_rows: B rising row indices; the last is N - 1.
        bootstrap_values: [B].
        gamma: discount of one step.
        gae_lambda: weight of longer estimates.

    Returns:
        Advantages [N] and returns [N], float32, computed in double precision.

    Raises:
        ValueError: Lengths do not fit together.
    """
    rows = len(rewards)
    covered = last_rows[-1] + 1 if last_rows else 0
    if len(values) != rows or covered != rows or len(bootstrap_values) != len(last_rows):
        raise ValueError(
            f"{rows} rewards, {len(values)} values, {len(last_rows)} trajectories and "
            f"{len(bootstrap_values)} bootstrap values do not belong together"
        )
    reward, value, bootstrap = rewards.tolist(), values.tolist(), bootstrap_values.tolist()
    advantages = [0.0] * rows
    trajectory = len(last_rows)
    next_value = next_advantage = 0.0
    for row in reversed(range(rows)):
        if trajectory and row == last_rows[trajectory - 1]:
            trajectory -= 1
            next_value, next_advantage = bootstrap[trajectory], 0.0
        delta = reward[row] + gamma * next_value - value[row]
        next_advantage = delta + gamma * gae_lambda * next_advantage
        next_value = value[row]
        advantages[row] = next_advantage
    double = torch.tensor(advantages, dtype=torch.float64)
    return double.float(), (double + values.double().cpu()).float()


def normalize(advantages: torch.Tensor) -> torch.Tensor:
    """Shift to mean 0 and scale to unbiased standard deviation 1; a single row becomes 0."""
    if len(advantages) < 2:
        return torch.zeros_like(advantages)
    return (advantages - advantages.mean()) / (advantages.std() + _EPSILON)


def discounted_returns(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """Rewards to come of each step of one whole episode: G_t = r_t + gamma * G_{t+1}, float64 [L]."""
    returns = np.empty(len(rewards), dtype=np.float64)
    running = 0.0
    for step in reversed(range(len(rewards))):
        running = float(rewards[step]) + gamma * running
        returns[step] = running
    return returns


def leave_one_out(values: np.ndarray) -> np.ndarray:
    """Each value minus the mean of the others (RLOO, arXiv 2402.14740), float64 [K], K >= 2."""
    return (values - values.mean()) * (len(values) / (len(values) - 1))


def group_relative(values: np.ndarray, scale: float | None) -> np.ndarray:
    """Each value minus the mean of all, over `scale` (None: over nothing), float64 [K] (GRPO, arXiv 2402.03300).

    Where all values are equal there is nothing to prefer: exactly 0, whatever rounding says.
    """
    if np.all(values == values[0]):
        return np.zeros(len(values))
    centred = values - values.mean()
    return centred if scale is None else centred / (scale + _EPSILON)
