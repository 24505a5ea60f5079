"""Adam over named parameters, a gradient step that refuses non-finite numbers, and learning-rate factors."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from protocol.errors import UpdateDiverged


def warmup_factor(index: int, warmup: int) -> float:
    """Factor on the learning rate of step or update `index` (from 0): (index + 1) / (warmup + 1), at most
    1."""
    return min(1.0, (index + 1) / (warmup + 1))


def cosine_factor(index: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine from 1 down to 0 at index `total`."""
    if index < warmup:
        return warmup_factor(index, warmup)
    return 0.5 * (1.0 + math.cos(math.pi * (index - warmup) / max(1, total - warmup)))


def clipped_step(
    optimizer: torch.optim.Optimizer,
    groups: Iterable[tuple[str, list[nn.Parameter]]],
    *,
    max_norm: float,
    loss: float,
) -> dict[str, float]:
    """Clip the gradient of each group to `max_norm`, apply it, and clear it.

    Args:
        optimizer: holds the parameters of all groups.
        groups: name and parameters; each group is clipped by its own Euclidean norm.
        max_norm: the limit.
        loss: of this step; only checked.

    Returns:
        Gradient norm of each group before clipping, by name.

    Raises:
        UpdateDiverged: The loss or a norm is not finite. Nothing was applied, and the gradients are gone.
    """
    norms = {name: float(nn.utils.clip_grad_norm_(parameters, max_norm)) for name, parameters in groups}
    if not math.isfinite(loss) or not all(math.isfinite(norm) for norm in norms.values()):
        optimizer.zero_grad(set_to_none=True)
        shown = ", ".join(f"{name} {norm:g}" for name, norm in norms.items())
        raise UpdateDiverged(
            f"Loss {loss:g} with gradient norms {shown}: not finite, the step was not applied.",
            "lower the learning rate, or resume from the last checkpoint",
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norms
