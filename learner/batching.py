"""Rows to padded tensors, and rows to microbatches of similar length within a token budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from learner.rows import Rows


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
    digests: tuple[tuple[bytes, ...], ...]
    """Frames of each row, in the order of their placeholders."""
    frames: Mapping[bytes, bytes]
    """Compressed frames by digest (at least those of `digests`)."""

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on `device`."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            prompt_lengths=self.prompt_lengths.to(device),
            response_ids=self.response_ids.to(device),
            response_mask=self.response_mask.to(device),
            temperatures=self.temperatures.to(device),
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


def microbatches(lengths: np.ndarray, index: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Split the rows at `index` into groups of similar length whose padded size stays within `token_budget`
    tokens.

    Args:
        lengths: tokens of every row, int [N].
        index: rows to split, int [M].
        token_budget: bound on group size times longest row. A row that exceeds it alone is a group of its
            own.

    Returns:
        Index arrays that together hold every entry of `index` once; their order depends on the arguments
        only.
    """
    order = index[np.argsort(lengths[index], kind="stable")]
    groups: list[np.ndarray] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Lengths rise along `order`, so the next row would be the longest of the group.
        if end == len(order) or (end - start + 1) * int(lengths[order[end]]) > token_budget:
            groups.append(order[start:end])
            start = end
    return groups
