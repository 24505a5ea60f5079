"""Rows to padded tensors, and rows to microbatches of similar length within a token budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from learner.devices import moved
from learner.rows import Rows

State = tuple[bytes, tuple[bytes, ...]]
"""As `Rows.state` tells states apart: prompt ids as int32, and frames."""

_ID_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """B rows, right-padded to S = the longest prompt plus response, and to T = the longest response.

    Padding sits on the right only, so under causal attention no real token ever attends to it.
    """

    input_ids: torch.Tensor
    """int64 [B, S]: prompt, then response, then padding."""
    prompt_lengths: torch.Tensor
    """int64 [B], in tokens."""
    response_ids: torch.Tensor
    """int64 [B, T]; 0 where `response_mask` is False."""
    response_mask: torch.Tensor
    """bool [B, T]: True = a sampled token."""
    temperatures: torch.Tensor
    """float32 [B]; 0 means greedy."""
    prompts: tuple[np.ndarray, ...]
    """The prompts as they came, int [P] each."""
    responses: tuple[np.ndarray, ...]
    """The responses as they came, int [T] each."""
    digests: tuple[tuple[bytes, ...], ...]
    """Frames of each row, in the order of their placeholders."""
    frames: Mapping[bytes, bytes]
    """Compressed frames by digest (at least those of `digests`)."""

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on `device`."""
        return replace(
            self,
            input_ids=moved(self.input_ids, device),
            prompt_lengths=moved(self.prompt_lengths, device),
            response_ids=moved(self.response_ids, device),
            response_mask=moved(self.response_mask, device),
            temperatures=moved(self.temperatures, device),
        )


def collate(rows: Rows, index: np.ndarray, pad_id: int) -> TokenBatch:
    """Batch of the rows at `index` (int [B]), prompt and response."""
    return collate_tokens(
        [rows.prompts[i] for i in index],
        [rows.responses[i] for i in index],
        [rows.digests[i] for i in index],
        rows.frames,
        pad_id,
        rows.temperatures[index],
    )


def collate_tokens(
    prompts: Sequence[np.ndarray],
    responses: Sequence[np.ndarray],
    digests: Sequence[tuple[bytes, ...]],
    frames: Mapping[bytes, bytes],
    pad_id: int,
    temperatures: np.ndarray | None = None,
) -> TokenBatch:
    """Batch of B prompts (int [P]) and responses (int [T], empty to ask for values only).

    `pad_id` must not be an image placeholder. Without `temperatures` (float [B]) every row counts as sampled
    at 1.
    """
    prompt_lengths = np.array([len(p) for p in prompts], dtype=np.int64)
    response_lengths = np.array([len(r) for r in responses], dtype=np.int64)
    input_ids = np.full((len(prompts), int((prompt_lengths + response_lengths).max())), pad_id, dtype=np.int64)
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        input_ids[i, : len(prompt)] = prompt
        input_ids[i, len(prompt) : len(prompt) + len(response)] = response
    response_ids, response_mask = pad_right(responses, np.dtype(np.int64))
    if temperatures is None:
        temperatures = np.ones(len(prompts), dtype=np.float32)
    return TokenBatch(
        input_ids=torch.from_numpy(input_ids),
        prompt_lengths=torch.from_numpy(prompt_lengths),
        response_ids=response_ids,
        response_mask=response_mask,
        temperatures=torch.from_numpy(np.array(temperatures, dtype=np.float32)),
        prompts=tuple(prompts),
        responses=tuple(responses),
        digests=tuple(digests),
        frames=frames,
    )


def pad_right(arrays: Sequence[np.ndarray], dtype: np.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack arrays of lengths T_i to [B, max T_i], filled with 0, and a bool mask: True = a real entry."""
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    valid_mask = np.arange(int(lengths.max())) < lengths[:, None]
    padded = np.zeros(valid_mask.shape, dtype=dtype)
    padded[valid_mask] = np.concatenate(arrays)
    return torch.from_numpy(padded), torch.from_numpy(valid_mask)


def microbatches(
    lengths: np.ndarray, index: np.ndarray, token_budget: int, state_of: Callable[[int], State] | None = None
) -> list[np.ndarray]:
    """Split the rows at `index` into groups of similar length whose size stays within `token_budget` tokens.

    Args:
        lengths: tokens of every row, int [N].
        index: rows to split, int [M].
        token_budget: bound on group size times longest row. A row that exceeds it alone is a group of its
            own.
        state_of: state of a row, for a model that computes the equal prompts of a group once: rows of one state then
            stay together, and count as one prompt and their responses. None where every row costs its length.

    Returns:
        Index arrays that together hold every entry of `index` once; their order depends on the arguments
        only.
    """
    states = [] if state_of is None else [state_of(row) for row in index.tolist()]
    if len(set(states)) < len(states):
        return _by_state(lengths, index, token_budget, states)
    order = index[np.argsort(lengths[index], kind="stable")]
    groups: list[np.ndarray] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Lengths rise along `order`, so the next row would be the longest of the group.
        if end == len(order) or (end - start + 1) * int(lengths[order[end]]) > token_budget:
            groups.append(order[start:end])
            start = end
    return groups


def _by_state(lengths: np.ndarray, index: np.ndarray, token_budget: int, states: Sequence[State]) -> list[np.ndarray]:
    first_of: dict[State, int] = {}
    numbers = np.array([first_of.setdefault(state, place) for place, state in enumerate(states)])
    prompts = np.array([len(prompt) // _ID_BYTES for prompt, _ in states])
    groups: list[list[int]] = [[]]
    tokens, before = 0, -1
    for place in np.lexsort((lengths[index], numbers, prompts)).tolist():
        row = int(index[place])
        whole, response = int(lengths[row]), int(lengths[row]) - int(prompts[place])
        added = response if numbers[place] == before else whole
        if groups[-1] and tokens + added > token_budget:
            groups.append([])
            tokens, added = 0, whole
        groups[-1].append(row)
        tokens, before = tokens + added, int(numbers[place])
    return [np.array(group, dtype=index.dtype) for group in groups]
