"""One optimizer step's gradients and row numbers, brought together from every process of a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from learner.objective import RowNumbers, join_numbers
from learner.parallel.group import Group, add_up_gradients


def join_step(
    group: Group, parameters: Sequence[nn.Parameter], index: np.ndarray, parts: Sequence[RowNumbers]
) -> RowNumbers:
    """Sum the gradients over the group, and give every process the numbers of all rows; one collective.

    Args:
        group: the processes.
        parameters: whose gradients each process has of its own rows.
        index: all rows of the step, int [M], each once.
        parts: numbers of this process's passes; those of a pass that does not count have no rows, but all names.
    """
    own = join_numbers(parts)
    if group.size == 1:
        return own
    names = sorted(own.keys() - {"index"})
    place_of = {row: place for place, row in enumerate(index.tolist())}
    table = torch.zeros(len(names), len(index))
    table[:, [place_of[row] for row in own["index"].tolist()]] = torch.stack([own[name] for name in names])
    add_up_gradients(group, parameters, [table])
    return dict(zip(names, table, strict=True)) | {"index": torch.from_numpy(index)}


def without_rows(numbers: RowNumbers) -> RowNumbers:
    """The names of a pass that does not count."""
    return {name: values[:0] for name, values in numbers.items()}
