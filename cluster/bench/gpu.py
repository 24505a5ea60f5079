"""Timing and utilisation of a GPU, where there is one."""

from __future__ import annotations

from time import perf_counter

import torch

from cluster.bench.timing import clock

_PEAKS = {"B200": 2250e12, "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
"""Dense bfloat16 operations per second by a part of the GPU's name, from the makers' data sheets."""


def work_clock() -> float:
    """Seconds: CPU time of this process, or, with a GPU, wall clock when the GPU has done what it was given."""
    if not torch.cuda.is_available():
        return clock()
    torch.cuda.synchronize()
    return perf_counter()


def peak_flops(name: str) -> float | None:
    """What the GPU of that name could do at best, bfloat16 operations per second; None for one that is not known."""
    return next((peak for part, peak in _PEAKS.items() if part in name), None)


def update_flops(parameters: int, tokens: int) -> float:
    """Operations of a forward and a backward pass through frozen weights: 2 and 2 per parameter and token.

    The usual 6 (Kaplan et al., arXiv 2001.08361) holds 2 for the gradients of weights, which adapters spare. It is the
    work that was asked for (model FLOPs utilisation, arXiv 2204.02311): attention, output layer at prompt tokens and
    pictures apart, and whoever computes a shared prompt once is credited with all its rows.
    """
    return 4.0 * parameters * tokens
