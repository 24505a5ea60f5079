"""Rows as one sequence of tokens without padding, in which equal prompts stand once.

A row's response attends to its prompt and to itself, wherever the two stand; `learner.packed_attention` sees to it. Of
the last layer only those states are wanted that predict a response token (or, without a response, the one at the
prompt's end), so it is asked for no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from learner.devices import moved

_MULTIPLE = 256
"""Tokens that packed lengths are rounded up to, so that matrix products come in few shapes."""


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Attention of b groups of queries, each to keys of its own, in padded form."""

    queries: torch.Tensor
    """int64 [b, Q]: who asks, among the packed tokens (in `Packing.read_span`, among the reads); 0 at padding."""
    keys: torch.Tensor
    """int64 [b, K]: packed tokens that may be looked at; 0 at padding."""
    bias: torch.Tensor | None
    """float32 [b, 1, Q, K], added to scores: 0, or -inf where a query may not look. None where queries are the keys,
    and each looks at itself and at what stands before it."""
    places: torch.Tensor
    """int64: where, in the flattened [b * Q], the answers stand that are wanted, in packed order."""

    def to(self, device: torch.device) -> Span:
        """The same span on `device`."""
        bias = None if self.bias is None else moved(self.bias, device)
        return Span(moved(self.queries, device), moved(self.keys, device), bias, moved(self.places, device))


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """N packed tokens: what stands first is prompts and what is fed of responses, then comes filling.

    Where no two of R rows share a prompt, each response stands after its own; else responses stand after all prompts.
    """

    distinct: np.ndarray
    """int64 [U]: for each distinct prompt the first row that has it."""
    prompt_of: np.ndarray
    """int64 [R]: which of them is the row's."""
    prompt_starts: np.ndarray
    """int64 [U]: where each distinct prompt begins."""
    fed_starts: np.ndarray
    """int64 [R]: where what is fed of each response begins."""
    fed_lengths: np.ndarray
    """int64 [R]: how long that is: one less than the response, whose last token nothing is to be predicted from."""
    token_ids: torch.Tensor
    """int64 [N]."""
    spans: tuple[Span, ...]
    """Their answers, one after the other, are those of all tokens but the filling."""
    reads: torch.Tensor
    """int64 [M]: tokens whose last-layer states are wanted: row by row the prompt's end and the response but for its
    last token, then filling."""
    read_span: Span
    """Attention of `reads`."""
    first_reads: torch.Tensor
    """int64 [R]: where, among `reads`, a row's begin: the state at its prompt's end."""

    def to(self, device: torch.device) -> Packing:
        """The same packing on `device`."""
        return replace(
            self,
            token_ids=moved(self.token_ids, device),
            spans=tuple(span.to(device) for span in self.spans),
            reads=moved(self.reads, device),
            read_span=self.read_span.to(device),
            first_reads=moved(self.first_reads, device),
        )


def pack(
    prompts: Sequence[np.ndarray],
    responses: Sequence[np.ndarray],
    digests: Sequence[tuple[bytes, ...]],
    pad_id: int,
    *,
    share_prompts: bool,
) -> Packing:
    """Pack R rows of a prompt (int [P]) and a response (int [T], may be empty) each.

    Args:
        prompts, responses: token ids.
        digests: frames of each prompt; prompts are equal only with equal frames.
        pad_id: id of the filling.
        share_prompts: whether equal prompts stand once; else each row has its own.
    """
    distinct, prompt_of = _distinct_prompts(prompts, digests) if share_prompts else _each(len(prompts))
    fed = [response[:-1] for response in responses]
    prompt_lengths, fed_lengths = _lengths([prompts[i] for i in distinct]), _lengths(fed)
    if len(distinct) == len(prompts):
        tokens = [part for row in zip(prompts, fed, strict=True) for part in row]
        prompt_starts = _starts(prompt_lengths + fed_lengths)
        fed_starts = prompt_starts + prompt_lengths
        sequences = _ranges(prompt_starts, prompt_lengths + fed_lengths)
    else:
        tokens = [*(prompts[i] for i in distinct), *fed]
        prompt_starts = _starts(prompt_lengths)
        fed_starts = _starts(fed_lengths) + prompt_lengths.sum()
        sequences = _ranges(prompt_starts, prompt_lengths)
    prompt_ranges, fed_ranges = _ranges(prompt_starts, prompt_lengths), _ranges(fed_starts, fed_lengths)
    # A row reads at its prompt's end and at each token that is fed after it.
    ends = (prompt_starts + prompt_lengths - 1)[prompt_of][:, None]
    reads = np.concatenate([ends, fed_ranges.index], axis=1)
    read_ranges = _ranges(_starts(fed_lengths + 1), fed_lengths + 1)
    keys = np.concatenate([prompt_ranges.index[prompt_of], fed_ranges.index], axis=1)
    bias = _bias(np.concatenate([prompt_ranges.valid[prompt_of], fed_ranges.valid], axis=1), reads.shape[1])
    spans = [_span(sequences.index, sequences.index, None, sequences.valid)]
    if len(distinct) < len(prompts) and fed_ranges.index.size:
        spans.append(_span(fed_ranges.index, keys, bias[:, :, 1:], fed_ranges.valid))
    return Packing(
        distinct=distinct,
        prompt_of=prompt_of,
        token_ids=torch.from_numpy(_filled(np.concatenate(tokens), pad_id)),
        prompt_starts=prompt_starts,
        fed_starts=fed_starts,
        fed_lengths=fed_lengths,
        spans=tuple(spans),
        reads=torch.from_numpy(_filled(reads[read_ranges.valid], 0)),
        read_span=_span(read_ranges.index, keys, bias, read_ranges.valid),
        first_reads=torch.from_numpy(_starts(fed_lengths + 1)),
    )


def _distinct_prompts(
    prompts: Sequence[np.ndarray], digests: Sequence[tuple[bytes, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    numbers: dict[tuple[bytes, tuple[bytes, ...]], int] = {}
    states = ((prompt.tobytes(), frames) for prompt, frames in zip(prompts, digests, strict=True))
    prompt_of = np.array([numbers.setdefault(state, len(numbers)) for state in states], dtype=np.int64)
    return np.unique(prompt_of, return_index=True)[1].astype(np.int64), prompt_of


def _each(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count), np.arange(count)


class _Ranges(NamedTuple):
    index: np.ndarray
    """int64 [b, longest]: start, start + 1, ... of each range; 0 at padding."""
    valid: np.ndarray
    """bool: True = no padding."""


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> _Ranges:
    steps = np.arange(int(lengths.max(initial=0)))
    valid = steps < lengths[:, None]
    return _Ranges(np.where(valid, starts[:, None] + steps, 0), valid)


def _lengths(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(array) for array in arrays], dtype=np.int64)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.cumsum(lengths) - lengths


def _filled(values: np.ndarray, filling: int) -> np.ndarray:
    """As int64, lengthened to a multiple of `_MULTIPLE`."""
    return np.pad(values.astype(np.int64), (0, -len(values) % _MULTIPLE), constant_values=filling)


def _bias(keys_valid: np.ndarray, reads: int) -> torch.Tensor:
    """What reads of a row may see of its keys (bool [R, K]), as float32 [R, 1, reads, K]: the first read no response
    token, each further one another."""
    sees = np.tri(reads, keys_valid.shape[1], keys_valid.shape[1] - reads, dtype=bool) & keys_valid[:, None]
    return torch.zeros(sees.shape).masked_fill_(torch.from_numpy(~sees), -torch.inf)[:, None]


def _span(queries: np.ndarray, keys: np.ndarray, bias: torch.Tensor | None, valid: np.ndarray) -> Span:
    places = np.flatnonzero(valid)
    return Span(torch.from_numpy(queries), torch.from_numpy(keys), bias, torch.from_numpy(places))
