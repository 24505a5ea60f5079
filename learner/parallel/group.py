"""The processes that train one policy together, as the learner sees them.

The update, its preparation and supervised fine-tuning ask a group three things: which of several passes are mine,
sum this over all of us, and do we still hold the same weights. A process on its own is a group of one, for which
all three cost nothing. Algorithms and losses know of no group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import nn

from learner.parallel.sharding import is_sharded


class Group(Protocol):
    """Processes that call the same methods in the same order, each with its own part of the numbers."""

    @property
    def rank(self) -> int:
        """Of this process, from 0. Rank 0 writes files."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace every tensor, in place, by its sum over the processes; shapes must agree among them.

        Raises:
            LearnerGroupBroken: A process is gone, or did not take part in time.
        """
        ...

    def require_equal(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Make sure that every process holds the same bytes under every name.

        Raises:
            LearnerGroupBroken: They differ (named), a process is gone, or it did not take part in time.
        """
        ...


class Alone:
    """A group of one."""

    rank = 0
    size = 1

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Nothing: a sum of one."""

    def require_equal(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Nothing: equal to itself."""


ALONE: Group = Alone()
"""The one process of a learner that is not shared."""


def add_up_gradients(group: Group, parameters: Sequence[nn.Parameter], others: Sequence[torch.Tensor] = ()) -> None:
    """Sum gradients over the group, and `others` with them, in one go.

    A parameter without a gradient counts as 0 where another process has one, and stays without where none has: Adam
    would move it otherwise. The gradient of a sharded parameter is a sum already.
    """
    if group.size == 1:
        return
    whole = [p for p in parameters if not is_sharded(p)]
    present = torch.tensor([float(p.grad is not None) for p in whole])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in whole]
    group.add_up([*gradients, present, *others])
    for parameter, gradient, count in zip(whole, gradients, present.tolist(), strict=True):
        parameter.grad = gradient if count else None
