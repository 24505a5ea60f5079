"""The policy's adapter as the bytes of a PEFT folder, and the package that servers are given."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from peft import get_peft_model_state_dict

from learner.adapter_bytes import tensor_bytes
from learner.batching import collate_tokens
from learner.policy import Policy
from protocol.adapter import AdapterManifest, AdapterPackage, Canary, CanaryPrompt, joined_digest
from protocol.errors import RequestRefused
from protocol.trajectory import digest_of

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


def adapter_weights(policy: Policy, dtype: torch.dtype) -> tuple[pa.Buffer, bytes]:
    """Content of `adapter_model.safetensors` (PEFT's key names, no value head, cast to `dtype`) and its SHA-256."""
    return tensor_bytes(get_peft_model_state_dict(policy.peft_model), dtype)


def adapter_config(policy: Policy, base_model: Path | str) -> bytes:
    """Content of `adapter_config.json` (UTF-8), with sorted keys, so that equal settings give equal bytes."""
    settings = policy.peft_model.peft_config["default"].to_dict()
    settings |= {"base_model_name_or_path": str(base_model), "inference_mode": True}
    return json.dumps(settings, default=_jsonable, indent=2, sort_keys=True).encode()


def write_adapter(policy: Policy, base_model: Path | str, folder: Path) -> Path:
    """Write the adapter (float32) as a PEFT folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, _ = adapter_weights(policy, torch.float32)
    (folder / WEIGHTS_FILE).write_bytes(memoryview(weights))
    (folder / CONFIG_FILE).write_bytes(adapter_config(policy, base_model))
    return folder


def build_package(
    policy: Policy, base_model: Path | str, policy_version: int, prompts: Sequence[CanaryPrompt]
) -> AdapterPackage:
    """Freeze the adapter as `policy_version`, with every canary scored by this learner.

    Raises:
        RequestRefused: A canary's placeholders and images differ in number, or its response is empty.
        TrajectoryError: A canary's image cannot be read.
    """
    # Which pictures were encoded together decides the last bits of a score: canaries start afresh at every publish.
    policy.backbone.vision.clear()
    # Servers hold the adapter in the type of the base weights.
    weights, weights_sha256 = adapter_weights(policy, policy.backbone.model.dtype)
    config = adapter_config(policy, base_model)
    manifest = AdapterManifest(
        policy_version=policy_version,
        digest=joined_digest(weights_sha256, config),
        rank=policy.lora.rank,
        alpha=float(policy.lora.alpha),
        target_modules=policy.lora_targets,
        weights_bytes=weights.size,
    )
    return AdapterPackage(manifest, weights, config, tuple(score_canary(policy, prompt) for prompt in prompts))


@torch.no_grad()
def score_canary(policy: Policy, prompt: CanaryPrompt) -> Canary:
    """Log-probs of the canary's response at temperature 1 with nothing banned, adapter on and off."""
    if len(prompt.response_token_ids) == 0:
        raise RequestRefused("A canary has an empty response.", "give it at least one token to score")
    frames = {digest_of(data): data for data in prompt.images}
    digests = tuple(digest_of(data) for data in prompt.images)
    batch = collate_tokens(
        [_expand(policy, prompt, digests, frames)],
        [np.asarray(prompt.response_token_ids, dtype=np.int32)],
        [digests],
        frames,
        policy.backbone.pad_id,
    )
    log_probs = policy.log_probs(batch, ban=False)[0].cpu().numpy()
    with policy.adapter_off():
        base_log_probs = policy.log_probs(batch, ban=False)[0].cpu().numpy()
    ids, response = tuple(prompt.prompt_token_ids), tuple(prompt.response_token_ids)
    return Canary(ids, prompt.images, response, log_probs, base_log_probs)


def _expand(policy: Policy, prompt: CanaryPrompt, digests: tuple[bytes, ...], frames: dict[bytes, bytes]) -> np.ndarray:
    """Prompt ids with each placeholder repeated once per image token, as the model sees them: int32 [P]."""
    ids = np.asarray(prompt.prompt_token_ids, dtype=np.int32)
    placeholders = np.flatnonzero(ids == policy.backbone.image_token_id)
    if len(placeholders) != len(digests):
        raise RequestRefused(
            f"A canary prompt has {len(placeholders)} image placeholders for {len(digests)} images.",
            "give exactly one placeholder id per image, unexpanded",
        )
    repeats = np.ones(len(ids), dtype=np.int64)
    repeats[placeholders] = [policy.backbone.images.inputs(d, frames).image_tokens for d in digests]
    return np.repeat(ids, repeats)


def _jsonable(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{value!r} of the adapter's settings has no JSON form")
