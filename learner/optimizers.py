"""A gradient step that clips, and that refuses non-finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from learner.parallel.sharding import clip_gradients
from protocol.errors import UpdateDiverged


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
    norms = {name: float(clip_gradients(parameters, max_norm)) for name, parameters in groups}
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
