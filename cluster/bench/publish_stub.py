"""Adapters of any size without a model: what the stub cases of the `publish` benchmark send, and what takes them in.

A stub engine reads an adapter's file once from beginning to end and keeps nothing; its canaries cost nothing. All
around it is real: export of the bytes, object store, checks, files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from actors.engine import AdapterHandle, Completion, Draw, Prompt
from protocol.adapter import AdapterManifest, AdapterPackage, Canary, joined_digest
from protocol.errors import RequestRefused

if TYPE_CHECKING:
    import torch  # at run time only in the learner: servers take their time to load it

LAYERS = 28
"""Of a text model of 7B."""

_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_CHUNK_BYTES = 8 << 20
_RANK = 16
_CONFIG = json.dumps({"peft_type": "LORA", "r": _RANK, "bias": "none"}).encode()
_BASE_SCORE, _ADAPTED_SCORE = -3.0, -2.0
_RESPONSE = (5, 6)


def stub_tensors(nbytes: int) -> dict[str, torch.Tensor]:
    """bfloat16 tensors of `nbytes` in all, under the names of a 7B model's adapter."""
    import torch

    names = [
        f"base_model.model.model.language_model.layers.{layer}.{module}.lora_{side}.weight"
        for layer in range(LAYERS)
        for module in _MODULES
        for side in "AB"
    ]
    width = max(1, nbytes // (len(names) * 2 * _RANK))
    return {name: torch.full((_RANK, width), float(place), dtype=torch.bfloat16) for place, name in enumerate(names)}


def stub_package(tensors: dict[str, torch.Tensor], policy_version: int) -> AdapterPackage:
    """The tensors as a package, made as `learner.adapter_export` does, with a canary that nobody computed."""
    import torch

    from learner.adapter_bytes import tensor_bytes

    weights, weights_sha256 = tensor_bytes(tensors, torch.bfloat16)
    digest = joined_digest(weights_sha256, _CONFIG)
    manifest = AdapterManifest(policy_version, digest, _RANK, float(_RANK), _MODULES, weights.size)
    scores = [np.full(len(_RESPONSE), score, np.float32) for score in (_ADAPTED_SCORE, _BASE_SCORE)]
    return AdapterPackage(manifest, weights, _CONFIG, (Canary(_RESPONSE, (), _RESPONSE, *scores),))


class StubEngine:
    """An `actors.engine.Engine` that reads adapters and answers their canaries, and nothing else."""

    version = "stub"
    process_ids: tuple[int, ...] = ()
    failure: str | None = None

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def sleep(self) -> None:
        """Nothing to give back."""

    async def wake(self) -> None:
        """Nothing to take again."""

    async def load_adapter(self, adapter: AdapterHandle) -> None:
        """Reads the file, through a buffer of a few MiB."""
        buffer = bytearray(_CHUNK_BYTES)
        with (adapter.path / "adapter_model.safetensors").open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    async def unload_adapter(self, adapter: AdapterHandle) -> None:
        """Nothing was kept."""

    async def score(
        self, prompt: Prompt, response_token_ids: Sequence[int], adapter: AdapterHandle | None
    ) -> np.ndarray:
        """What the canary of `stub_package` claims."""
        return np.full(len(response_token_ids), _ADAPTED_SCORE if adapter else _BASE_SCORE, np.float32)

    async def draw(self, draw: Draw) -> Completion:
        """Refuses: there is no model."""
        raise RequestRefused("A stub engine draws nothing.")

    async def draw_batch(self, draws: Sequence[Draw]) -> list[Completion]:
        """Refuses: there is no model."""
        raise RequestRefused("A stub engine draws nothing.")
