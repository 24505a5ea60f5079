"""What a policy server needs from an engine: draw, score, load and unload adapters, sleep, and say when it is dead.

`PolicyServer` owns everything else (checks, versions, deadlines, canaries), so an engine stays small and a new one is
one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from actors.sampler import FinishReason
from protocol.adapter import adapter_name


@dataclass(frozen=True, slots=True)
class AdapterHandle:
    """A policy version on this server: its bytes' digest and the folder that holds the PEFT files."""

    policy_version: int
    digest: bytes
    path: Path

    @property
    def name(self) -> str:
        """`policy-v{n}`."""
        return adapter_name(self.policy_version)

    @property
    def serial(self) -> int:
        """The engine's number for the adapter: positive and unique per version."""
        return self.policy_version + 1


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """Unexpanded token ids with their decoded images."""

    token_ids: list[int]
    images: tuple[Image.Image, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One completion to draw; `adapter` None is the base model."""

    prompt: Prompt
    temperature: float
    max_tokens: int
    stop_token_ids: tuple[int, ...]
    seed: int | None
    adapter: AdapterHandle | None


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """What an engine drew."""

    prompt_token_ids: np.ndarray
    """int32 [P], expanded."""
    token_ids: np.ndarray
    """int32 [T]."""
    log_probs: np.ndarray
    """float32 [T]."""
    finish_reason: FinishReason


class Engine(Protocol):
    """A model in memory. Methods other than `start` are called only between `start` and `stop`."""

    @property
    def version(self) -> str:
        """Name and version of the library, e.g. `vllm 0.32.0`."""
        ...

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Child processes the engine lives in; empty for one in this process."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the engine is dead; None while it lives."""
        ...

    async def start(self) -> None:
        """Loads the model; raises ServerStartError with cause and cure."""
        ...

    async def draw(self, draw: Draw) -> Completion:
        """Draws one completion; joins whatever else is being drawn."""
        ...

    async def draw_batch(self, draws: Sequence[Draw]) -> list[Completion]:
        """Draws completions alone and in order: equal batches give bit-equal answers."""
        ...

    async def score(
        self, prompt: Prompt, response_token_ids: Sequence[int], adapter: AdapterHandle | None
    ) -> np.ndarray:
        """Log-probs float32 [T] of the response at temperature 1, nothing banned."""
        ...

    async def load_adapter(self, adapter: AdapterHandle) -> None:
        """Loads the adapter's files; raises AdapterRejected and stays alive when it cannot."""
        ...

    async def unload_adapter(self, adapter: AdapterHandle) -> None:
        """Forgets an adapter that no request uses."""
        ...

    async def sleep(self) -> None:
        """Gives GPU memory back: weights go to host memory, caches are forgotten. Nothing is being drawn."""
        ...

    async def wake(self) -> None:
        """Takes the memory again, with weights and adapters as they were before `sleep`."""
        ...

    async def stop(self) -> None:
        """Ends every process of the engine; harmless when repeated."""
        ...
