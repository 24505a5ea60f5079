"""Refuses adapter packages that an engine would load wrongly or not at all, from their bytes alone (no torch)."""

from __future__ import annotations

import json
import struct
from typing import Any

from protocol.adapter import AdapterPackage
from protocol.errors import AdapterRejected

_VISION_PARTS = (".visual.", ".vision_tower.", ".multi_modal_projector.")

_FROZEN_PARTS = (".lm_head.", ".embed_tokens.")


def check_package(package: AdapterPackage, *, max_rank: int, vision_adapters: bool) -> None:
    """Checks PEFT configuration and tensor names; the digest, which takes long, has `check_digest`.

    Raises:
        AdapterRejected: naming the version, the offending value and the limit.
    """
    version = package.manifest.policy_version
    if version < 0:
        raise AdapterRejected(f"policy version {version} is negative.", "count policy versions from 0")
    if not package.canaries:
        raise AdapterRejected(f"policy version {version} comes without a canary.", "add at least one canary")
    _check_config(package, max_rank)
    _check_names(package, vision_adapters)


def check_digest(package: AdapterPackage) -> None:
    """Checks that the bytes are those which the manifest names.

    Raises:
        AdapterRejected: naming the version and the digest.
    """
    if not package.digest_matches():
        raise digest_error(package)


def digest_error(package: AdapterPackage) -> AdapterRejected:
    """For bytes that are not those which the manifest names."""
    return AdapterRejected(
        f"policy version {package.manifest.policy_version}: the {len(package.weights)} weight bytes and the "
        f"configuration do not have the digest {package.manifest.digest.hex()[:16]}... of the manifest.",
        "send the package again; the bytes were changed or cut on the way",
    )


def _check_config(package: AdapterPackage, max_rank: int) -> None:
    version = package.manifest.policy_version
    try:
        config: dict[str, Any] = json.loads(package.config)
    except ValueError as error:
        raise AdapterRejected(f"policy version {version}: adapter_config.json is not JSON: {error}.") from error
    rank = max([int(config.get("r", 0)), *(config.get("rank_pattern") or {}).values()])
    if not 0 < rank <= max_rank:
        raise AdapterRejected(
            f"policy version {version} has rank {rank}, this server holds ranks 1 to {max_rank}.",
            "raise max_lora_rank in the server configuration",
        )
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or config.get("use_dora"):
        raise AdapterRejected(
            f"policy version {version}: peft_type {config.get('peft_type')!r}, bias {config.get('bias')!r}, "
            f"use_dora {config.get('use_dora')!r}; servers take plain LoRA without bias."
        )


def _check_names(package: AdapterPackage, vision_adapters: bool) -> None:
    version = package.manifest.policy_version
    for name in tensor_names(package):
        plain = name.startswith("base_model.model.") and name.endswith((".lora_A.weight", ".lora_B.weight"))
        if not plain:
            raise AdapterRejected(
                f"policy version {version} holds the tensor {name!r}, which is no PEFT LoRA matrix.",
                "export with PEFT's names, without the adapter's name and without the value head",
            )
        if any(part in name for part in _FROZEN_PARTS):
            raise AdapterRejected(
                f"policy version {version} adapts {name!r}; servers adapt no embeddings and no output layer.",
                "leave lm_head and embed_tokens out of the adapter's target modules",
            )
        if not vision_adapters and any(part in name for part in _VISION_PARTS):
            # vLLM would ignore these silently.
            raise AdapterRejected(
                f"policy version {version} adapts the vision part ({name!r}).",
                "set vision_adapters: true in the server configuration",
            )


def tensor_names(package: AdapterPackage) -> list[str]:
    """Names in the safetensors header, without `__metadata__`.

    Raises:
        AdapterRejected: the bytes are no safetensors file.
    """
    try:
        header = json.loads(header_bytes(package)[8:])
    except ValueError as error:
        raise _no_safetensors(package, error) from error
    return [name for name in header if name != "__metadata__"]


def header_bytes(package: AdapterPackage) -> bytes:
    """What comes before the tensors: 8 bytes of length, and the header itself.

    Raises:
        AdapterRejected: the bytes are no safetensors file.
    """
    data = memoryview(package.weights)
    try:
        (length,) = struct.unpack("<Q", data[:8])
        if length > len(data) - 8:
            raise ValueError(f"header of {length} bytes in a file of {len(data)}")
    except (struct.error, ValueError) as error:
        raise _no_safetensors(package, error) from error
    return bytes(data[: 8 + length])


def _no_safetensors(package: AdapterPackage, error: Exception) -> AdapterRejected:
    return AdapterRejected(
        f"policy version {package.manifest.policy_version}: weights are no safetensors file: {error}."
    )
