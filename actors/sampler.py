"""What a sampler is: requests in, sampled token ids with their log-probs out.

The rollout worker talks to a `Sampler`; the inference servers (`VLLMServer`, `TransformersServer`) and the scripted
fake all answer it. Nothing here knows which engine is behind, and nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from actors.delays import UNTOLD, Delays
from protocol.adapter import Acknowledgement, AdapterPackage
from protocol.errors import RequestRefused

_LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE = 0.01, 2.0

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a completion is drawn.

    There is no top-p and no top-k: a truncated distribution is renormalised, and the learner could not match it.

    Raises:
        RequestRefused: a temperature that is neither 0 nor in [0.01, 2], `max_tokens` below 1, or a stop string that
            is not one ASCII character.
    """

    temperature: float
    """Divides the logits; 0 takes the most likely token. Otherwise 0.01 to 2: vLLM raises smaller ones to 0.01
    without telling, and refuses larger ones."""
    max_tokens: int
    """Longest response in tokens, end-of-sequence token included."""
    stop: tuple[str, ...] = ("}",)
    """Characters that end the response. The token that holds one is kept whole, so a stop is a property of a single
    token: the engine itself sees it, no extra token is drawn, and the text always is the decoded token ids."""

    def __post_init__(self) -> None:
        if self.temperature != 0.0 and not _LOWEST_TEMPERATURE <= self.temperature <= _HIGHEST_TEMPERATURE:
            raise RequestRefused(
                f"temperature is {self.temperature}, it must be 0 (greedy) or "
                f"{_LOWEST_TEMPERATURE} to {_HIGHEST_TEMPERATURE}."
            )
        if self.max_tokens < 1:
            raise RequestRefused(f"max_tokens is {self.max_tokens}, it must be at least 1.")
        for character in self.stop:
            if len(character) != 1 or not character.isascii():
                raise RequestRefused(
                    f"stop string {character!r} is not a single ASCII character.",
                    "stop on one character, e.g. '}'; longer strings may straddle tokens",
                )


@dataclass(frozen=True, slots=True, eq=False)
class SampleRequest:
    """One completion to draw."""

    prompt_token_ids: Sequence[int]
    """Unexpanded: exactly ONE placeholder id per image."""
    images: tuple[bytes, ...]
    """PNG bytes, in the order of the placeholders."""
    image_digests: tuple[bytes, ...]
    """SHA-256 of each image's bytes (32 raw bytes each)."""
    params: SamplingParams
    policy_version: int
    seed: int | None = None
    """Makes this request's draws repeatable, by servers that are deterministic or draft no tokens; slower, so leave it
    out unless the run is deterministic."""
    delays: Delays = UNTOLD
    """What the sender did before; tells an engine what it was idle for."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A drawn completion.

    `log_probs` are of the distribution that was sampled from: log_softmax(logits with banned ids at -inf, divided by
    the temperature). Greedy requests (temperature 0) report the same at temperature 1.
    """

    prompt_token_ids: np.ndarray
    """int32 [P]: the prompt as the model saw it, image placeholders expanded."""
    token_ids: np.ndarray
    """int32 [T]: sampled ids, the stopping token or end-of-sequence included."""
    log_probs: np.ndarray
    """float32 [T], nats."""
    text: str
    """The decoded `token_ids`, special tokens left out."""
    policy_version: int
    """The version the request began and ended with."""
    adapter_digest: bytes
    """32 raw bytes; `NO_DIGEST` for the base model."""
    finish_reason: FinishReason
    sample_s: float
    """Seconds from request to answer, queueing included."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says about itself once it is up."""

    server_id: str
    kind: str
    model: str
    dtype: str
    engine_version: str
    max_model_len: int
    adapter_slots: int
    vocabulary_size: int
    """Ids that the tokenizer knows, `len(tokenizer)`."""
    eos_token_id: int
    image_token_id: int | None
    banned_token_ids: tuple[int, ...]
    """Ids no sample ever holds; the learner puts the same ids at -inf."""
    canary_tolerance: float
    process_ids: tuple[int, ...] = field(default=())
    """The engine's child processes."""
    start_s: float = 0.0


class Sampler(Protocol):
    """Draws completions; many calls may be in flight."""

    async def sample(self, request: SampleRequest) -> Sample:
        """Draws a completion under the policy version that the request names.

        Raises:
            RequestRefused: the request is malformed.
            UnknownPolicyVersion: the version is not served (any more).
            ServerDied: the engine is gone.
            DeadlineExceeded: no answer within the request timeout.
        """
        ...

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        """Draws one completion per request, in the order of the requests; raises like `sample`."""
        ...


class InferenceServer(Sampler, Protocol):
    """A sampler with an engine, a life cycle and versioned adapters. Plain class; Ray wraps it at the edge."""

    async def start(self) -> ServerInfo:
        """Builds the engine and warms it up.

        Raises:
            ServerStartError: with the cause, the engine's last words and the cure.
        """
        ...

    async def publish(self, package: AdapterPackage) -> Acknowledgement:
        """Loads an adapter under a new policy version and proves it with the package's canaries.

        Raises:
            AdapterRejected: with the reason; the engine keeps serving what it served before.
        """
        ...

    async def score(
        self,
        prompt_token_ids: Sequence[int],
        images: Sequence[bytes],
        response_token_ids: Sequence[int],
        policy_version: int | None = None,
    ) -> np.ndarray:
        """Log-probs float32 [T] of a given response at temperature 1, nothing banned; None names the base model."""
        ...

    async def retire(self, policy_version: int) -> None:
        """Refuses new requests for a version, waits for its live ones, then frees its slot and its files."""
        ...

    async def status(self) -> dict[str, Any]:
        """Health, versions and counters, as plain values."""
        ...

    async def stop(self) -> None:
        """Ends the engine, its processes and its files. Harmless when repeated."""
        ...
