"""An adapter on its way from the learner to the servers: manifest, bytes, canaries, acknowledgement."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


def adapter_name(policy_version: int) -> str:
    """Name under which a server knows the adapter; never used for two different adapters."""
    return f"policy-v{policy_version}"


def adapter_digest(weights: pa.Buffer | bytes, config: bytes) -> bytes:
    """SHA-256 over the safetensors bytes and the adapter's configuration: 32 raw bytes."""
    return joined_digest(hashlib.sha256(weights).digest(), config)


def joined_digest(weights_sha256: bytes, config: bytes) -> bytes:
    """`adapter_digest` of weights that were hashed before."""
    return hashlib.sha256(weights_sha256 + hashlib.sha256(config).digest()).digest()


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """What an adapter is, without its weights."""

    policy_version: int
    digest: bytes
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    weights_bytes: int

    @property
    def name(self) -> str:
        """The served name, `policy-v{n}`."""
        return adapter_name(self.policy_version)


@dataclass(frozen=True, slots=True, eq=False)
class CanaryPrompt:
    """A prompt with a fixed response, before any model has scored it; made once per run."""

    prompt_token_ids: Sequence[int]
    """Unexpanded: one placeholder id per image."""
    images: tuple[bytes, ...]
    """PNG bytes, in the order of the placeholders."""
    response_token_ids: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class Canary:
    """A prompt with a fixed response that proves which weights a server answers with.

    Both log-prob arrays are the learner's, float32 [T], at temperature 1 over the whole vocabulary (nothing
    banned): `log_probs` under the adapter of the package, `base_log_probs` with the adapter switched off.
    """

    prompt_token_ids: Sequence[int]
    """Unexpanded: one placeholder id per image."""
    images: tuple[bytes, ...]
    """PNG bytes, in the order of the placeholders."""
    response_token_ids: Sequence[int]
    log_probs: np.ndarray
    base_log_probs: np.ndarray

    @property
    def base_gap(self) -> float:
        """Largest |adapter - base| log-prob difference that the learner itself sees (nats)."""
        return float(np.max(np.abs(self.log_probs - self.base_log_probs))) if len(self.log_probs) else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class AdapterPackage:
    """One published policy version: PEFT files as bytes, and the canaries every server has to reproduce.

    `weights` is the content of `adapter_model.safetensors` (an Arrow buffer, so that Ray hands it over
    without a copy), `config` that of `adapter_config.json`. The value head is not part of it.
    """

    manifest: AdapterManifest
    weights: pa.Buffer
    config: bytes
    canaries: tuple[Canary, ...]

    def digest_matches(self) -> bool:
        """Whether the bytes are the ones the manifest names."""
        return adapter_digest(self.weights, self.config) == self.manifest.digest


@dataclass(frozen=True, slots=True)
class PublishTimes:
    """Where a server's time went, in seconds."""

    check_s: float
    """Configuration and tensor names of the package."""
    write_s: float
    """Digest, and files for the engine; the server waits where another one of its node is at that."""
    load_s: float
    """The engine takes them in."""
    canary_s: float
    """Canaries scored, with the adapter and without, and compared."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A server's word that it serves a policy version, with the evidence."""

    policy_version: int
    digest: bytes
    server_id: str
    max_abs_error: float
    """Largest |server - learner| log-prob difference over all canary tokens (nats)."""
    base_gap: float
    """Largest |adapter - base| log-prob difference on this server over all canary tokens (nats)."""
    publish_s: float
    """From the package's arrival to this word, waiting for a free slot included."""
    times: PublishTimes
