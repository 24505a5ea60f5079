"""Base weights split over the processes of a group, layer by layer (FSDP2): for models that do not fit one device.

Each process keeps 1/N of every sharded layer; the whole layer is there only while it computes. Adapters and value
head are made later and are never sharded: they are small, and every process needs all of them. Where base weights
themselves are trained, the gradient of a sharded one is summed over the processes as its layer is done with, and the
optimizer's state is sharded as the weight is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, share_comm_ctx
from torch.distributed.tensor import DTensor


def shard_language_model(model: Any, device: torch.device, size: int) -> None:
    """Shard the decoder layers, the embedding and the output layer of a Hugging Face model, in place.

    Where embedding and output layer are one tensor, it stays whole. So do the vision tower and the projector: how
    often they run depends on the frames that a process comes across, and gathering a layer takes all processes at
    once.

    Args:
        model: on the CPU; only shards reach `device`.
        device: of the shards.
        size: of the default process group.
    """
    mesh = init_device_mesh(device.type, (size,))
    modules = [*model.model.language_model.layers]
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding.weight is not output.weight:
        modules += [embedding, output]
    # Each is a root of its own, because the backbone calls embedding and output layer outside the model's forward.
    for module in modules:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
        # Losses are divided by all rows of a step, so that gradients are to be summed, not averaged.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    share_comm_ctx(cast("list[FSDPModule]", modules))


def is_sharded(parameter: torch.Tensor) -> bool:
    """Whether this process holds a part of the parameter only."""
    return isinstance(parameter, DTensor)


def held_bytes(parameters: Iterable[torch.Tensor]) -> int:
    """Memory that parameters take up in this process: of a sharded one, its shard."""
    return sum((p.to_local() if isinstance(p, DTensor) else p).nbytes for p in parameters)


def optimizer_groups(parameters: Sequence[nn.Parameter]) -> list[dict[str, list[nn.Parameter]]]:
    """Parameter groups for an optimizer, which cannot take whole and sharded ones in one step."""
    parts = _apart(parameters)
    return [{"params": part} for part in parts if part]


def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> torch.Tensor:
    """As `torch.nn.utils.clip_grad_norm_`, over whole and sharded parameters together; returns the norm before."""
    whole, sharded = _apart(parameters)
    if not sharded:
        return nn.utils.clip_grad_norm_(whole, max_norm)
    norms = [nn.utils.get_total_norm([p.grad for p in part if p.grad is not None]) for part in (whole, sharded)]
    total = torch.linalg.vector_norm(torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms]))
    for part in (whole, sharded):
        nn.utils.clip_grads_with_norm_(part, max_norm, total)
    return total


def gathered_weights(model: nn.Module) -> dict[str, torch.Tensor] | None:
    """All weights of a sharded model, whole and on the CPU, by name; None if it is not sharded.

    Every process of the group has to call it at the same time.
    """
    weights: dict[str, torch.Tensor] = model.state_dict(keep_vars=True)
    if not any(map(is_sharded, weights.values())):
        return None
    # One tensor under two names stays one, as those who write files expect it.
    known: dict[int, torch.Tensor] = {}
    for weight in weights.values():
        if id(weight) not in known:
            known[id(weight)] = (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach().cpu()
    return {name: known[id(weight)] for name, weight in weights.items()}


def _apart(parameters: Sequence[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Whole and sharded ones."""
    return [p for p in parameters if not is_sharded(p)], [p for p in parameters if is_sharded(p)]
