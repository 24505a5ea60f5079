"""A group of real processes over torch.distributed: gloo on CPUs, NCCL on GPUs; every operation has a deadline.

One per process. Who starts the processes and tells them where to meet is `cluster`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

import torch
import torch.distributed as dist
from torch.distributed import Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from protocol.errors import LearnerGroupBroken

_BUCKET_BYTES = 1 << 28
"""Largest flattened copy that one collective sends, unless a single tensor is larger. An adapter's gradients fit."""


class MeetingPoint:
    """The address at which the processes of one group find each other; rank 0 keeps it open.

    Args:
        host: address of this machine, as the others reach it.
        deadline_s: longest wait for the others, in seconds.
    """

    def __init__(self, host: str, deadline_s: float) -> None:
        self.host = host
        # Port 0: the system picks a free one, and keeps it ours from here on.
        self.store = TCPStore(host, 0, is_master=True, timeout=timedelta(seconds=deadline_s), wait_for_workers=False)

    @property
    def address(self) -> tuple[str, int]:
        """Host, and the port that the system picked."""
        return self.host, self.store.port


class ProcessGroup:
    """This process's place in a group; see `learner.parallel.group.Group`.

    Attributes:
        rank, size: of the group.
        device: where collectives take place: each process's own GPU with NCCL, else the CPU.
    """

    def __init__(self, store: Store, rank: int, size: int, *, device: torch.device, deadline_s: float) -> None:
        """Meet the others.

        Args:
            store: of the meeting point.
            rank: of this process.
            size: processes of the group.
            device: a GPU for NCCL, the CPU for gloo.
            deadline_s: longest wait for the others, here and in every later operation, in seconds.

        Raises:
            LearnerGroupBroken: Not all came in time.
        """
        self.rank, self.size, self.device = rank, size, device
        self._deadline_s = deadline_s
        backend = "nccl" if device.type == "cuda" else "gloo"
        with self._named("meet"):
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=deadline_s)
            )
            dist.barrier()

    @classmethod
    def join(cls, address: tuple[str, int], rank: int, size: int, *, device: torch.device, deadline_s: float) -> Self:
        """Come to the meeting point that rank 0 keeps; arguments and errors as above."""
        try:
            store = TCPStore(*address, is_master=False, timeout=timedelta(seconds=deadline_s))
        except RuntimeError as error:
            raise LearnerGroupBroken(
                f"Learner {rank} of {size} does not reach learner 0 at {address[0]}:{address[1]} within "
                f"{deadline_s:g} s: {error}",
                "learners need free TCP connections among their nodes",
            ) from error
        return cls(store, rank, size, device=device, deadline_s=deadline_s)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """See `Group.add_up`. Tensors of one type are sent as one flat copy, which the bucket size bounds."""
        with torch.no_grad(), self._named("add up numbers"):
            for bucket in _buckets(tensors):
                flat = torch.cat([t.detach().reshape(-1).to(self.device) for t in bucket])
                dist.all_reduce(flat)
                for tensor, summed in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
                    tensor.detach().copy_(summed.view_as(tensor))

    def require_equal(self, weights: Mapping[str, torch.Tensor]) -> None:
        """See `Group.require_equal`. Compares one 64-bit sum of the bytes of each tensor, not the tensors."""
        sums = torch.stack([_byte_sum(tensor) for tensor in weights.values()]).to(self.device)
        # ~x falls as x rises, so that one maximum finds the largest x and the smallest.
        extremes = torch.cat([sums, ~sums])
        with self._named("compare weights"):
            dist.all_reduce(extremes, dist.ReduceOp.MAX)
        largest, smallest = extremes[: len(sums)], ~extremes[len(sums) :]
        different = [name for name, equal in zip(weights, (largest == smallest).tolist(), strict=True) if not equal]
        if different:
            raise LearnerGroupBroken(
                f"The {self.size} learners no longer hold the same weights: {len(different)} of {len(weights)} tensors "
                f"differ, first {different[0]!r}.",
                "resume from the last checkpoint; use equal hardware and equal installations for all learners",
            )

    def leave(self) -> None:
        """Give up the group's connections."""
        dist.destroy_process_group()

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LearnerGroupBroken(
                f"Learner {self.rank} of {self.size} could not {what} with the others within {self._deadline_s:g} s: "
                f"{error}",
                "see why another learner ended or is slow, then resume the run",
            ) from error


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Runs of tensors of one type, each within the bucket size; the same in every process."""
    bucket: list[torch.Tensor] = []
    held_bytes = 0
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or held_bytes + tensor.nbytes > _BUCKET_BYTES):
            yield bucket
            bucket, held_bytes = [], 0
        bucket.append(tensor)
        held_bytes += tensor.nbytes
    if bucket:
        yield bucket


def _byte_sum(tensor: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor's bytes, taken as integers of the size of its elements; int64 scalar, wrapping around."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().contiguous().view(integers).sum(dtype=torch.int64)
