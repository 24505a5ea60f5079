"""A policy and its optimizer out of the device's memory and back into it, bit for bit.

For a device that is shared in turns: while the sampler has it, the learner keeps everything in host memory. Knows
nothing of whoever uses the device meanwhile; `learner.learner` calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch

from learner.devices import return_memory
from learner.policy import Policy
from protocol.errors import ConfigError


class Offloader:
    """Moves what a learner holds on its device: base weights, buffers, adapter, value head, optimizer state.

    The tensors stay the objects they are, so that model, optimizer and whoever else holds them see no difference;
    only the memory behind them changes. Frozen weights never change, so their copy in host memory is made once and
    kept. On a learner that computes on the CPU the round trip copies within host memory: nothing is gained, and
    nothing else is different.

    Args:
        policy: adapter, value head and base weights.
        optimizer: over the policy's trained parameters.
    """

    def __init__(self, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        self._policy = policy
        self._optimizer = optimizer
        self._copies: dict[torch.Tensor, torch.Tensor] = {}
        """Frozen weights in host memory, by the tensor that the model holds."""
        self._moved: list[torch.Tensor] = []
        """What is away from the device now."""
        self.is_offloaded = False

    def offload(self) -> int:
        """Move everything to host memory; returns the bytes that the device has back. Harmless when repeated.

        Features of frames are forgotten: they are computed anew in every update and at every export.

        Raises:
            ConfigError: The base weights are packed in 4 bits or split over several learners: they stay where they
                are. Nothing was moved.
        """
        if self.is_offloaded:
            return 0
        tensors = list(self._tensors())
        self._check_movable(tensors)
        self._policy.backbone.vision.clear()
        self._optimizer.zero_grad(set_to_none=True)
        self.is_offloaded = True
        for tensor in tensors:
            self._moved.append(tensor)
            tensor.data = self._host_copy(tensor)
        return_memory()
        return sum(tensor.nbytes for tensor in tensors)

    def reload(self) -> None:
        """Move everything back; harmless when it is there."""
        while self._moved:  # one by one: a device that is full keeps what it has got, and the rest is not lost
            tensor = self._moved[-1]
            tensor.data = tensor.data.to(self._policy.backbone.device, copy=True)
            self._moved.pop()
        self.is_offloaded = False

    def _tensors(self) -> Iterator[torch.Tensor]:
        """Everything on the policy's device, each tensor once."""
        policy = self._policy
        states = (value for state in self._optimizer.state.values() for value in state.values())
        found = chain(
            policy.peft_model.parameters(),
            policy.peft_model.buffers(),
            policy.value_head.parameters(),
            policy.value_head.buffers(),
            [policy.banned_mask],
            (value for value in states if isinstance(value, torch.Tensor)),
        )
        # Adam counts its steps in host memory, unless its kernel is fused.
        return iter({tensor: None for tensor in found if tensor.device == policy.backbone.device})

    def _host_copy(self, tensor: torch.Tensor) -> torch.Tensor:
        frozen = isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad
        if frozen and tensor in self._copies:
            return self._copies[tensor]
        copy = tensor.data.to("cpu", copy=True)
        if frozen:
            self._copies[tensor] = copy
        return copy

    def _check_movable(self, tensors: list[torch.Tensor]) -> None:
        if getattr(self._policy.backbone.model, "is_quantized", False):
            raise ConfigError(
                "The base weights are packed in 4 bits, blocks and scales apart: they cannot be moved to host memory.",
                "set servers.sleep_while_learning=false, or learner.compute.quantization=none",
            )
        if any(type(tensor.data) is not torch.Tensor for tensor in tensors):
            raise ConfigError(
                "The base weights are split over several learners, which cannot move them to host memory.",
                "set servers.sleep_while_learning=false, or learner.compute.sharding=none",
            )
