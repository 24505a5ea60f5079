"""Where a model lives."""

from __future__ import annotations

import gc

import torch


def resolve_device(name: str) -> torch.device:
    """The device that a setting means: `auto` is a GPU if there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def return_memory() -> None:
    """Give a GPU back what torch holds in reserve of it: other processes may need it."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on `device`; to a GPU by way of pinned memory, so that the program need not wait for the copy."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
