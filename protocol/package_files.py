"""An adapter package on disk: the bytes that servers were given, with manifest and canaries beside them.

Evaluation of a finished run serves an adapter without a learner; the stored canaries let the server prove even then
that it answers with the trained weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from protocol.adapter import AdapterManifest, AdapterPackage, Canary
from protocol.errors import CheckpointError

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
MANIFEST_FILE = "manifest.json"
CANARY_FILE = "canaries.arrow"

_CURE = "restore the folder from a copy, or take an older checkpoint"

_CANARY_SCHEMA = pa.schema(
    {
        "prompt_token_ids": pa.list_(pa.int32()),
        "images": pa.list_(pa.binary()),
        "response_token_ids": pa.list_(pa.int32()),
        "log_probs": pa.list_(pa.float32()),
        "base_log_probs": pa.list_(pa.float32()),
    }
)


def save_package(package: AdapterPackage, folder: Path) -> None:
    """Write the PEFT files, `manifest.json` and `canaries.arrow` into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(memoryview(package.weights))
    (folder / CONFIG_FILE).write_bytes(package.config)
    manifest = asdict(package.manifest)
    manifest["digest"] = package.manifest.digest.hex()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
    rows = [{name: list(getattr(c, name)) for name in _CANARY_SCHEMA.names} for c in package.canaries]
    with pa.OSFile(str(folder / CANARY_FILE), "wb") as file, pa.ipc.new_file(file, _CANARY_SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, _CANARY_SCHEMA))


def load_package(folder: Path) -> AdapterPackage:
    """Read what `save_package` wrote.

    Raises:
        CheckpointError: A file is missing or damaged, or the adapter's bytes are not those of the manifest.
    """
    missing = [f for f in (WEIGHTS_FILE, CONFIG_FILE, MANIFEST_FILE, CANARY_FILE) if not (folder / f).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}.", "name a complete checkpoint folder")
    package = AdapterPackage(
        manifest=_read_manifest(folder / MANIFEST_FILE),
        weights=pa.py_buffer((folder / WEIGHTS_FILE).read_bytes()),
        config=(folder / CONFIG_FILE).read_bytes(),
        canaries=_read_canaries(folder / CANARY_FILE),
    )
    if not package.digest_matches():
        raise CheckpointError(f"The adapter in {folder} has other bytes than its manifest names.", _CURE)
    return package


def _read_manifest(path: Path) -> AdapterManifest:
    try:
        values = json.loads(path.read_text())
        values["digest"] = bytes.fromhex(values["digest"])
        values["target_modules"] = tuple(values["target_modules"])
        return AdapterManifest(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}.", _CURE) from error


def _read_canaries(path: Path) -> tuple[Canary, ...]:
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            rows = reader.read_all().cast(_CANARY_SCHEMA).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}.", _CURE) from error
    return tuple(_canary(row) for row in rows)


def _canary(row: dict[str, list]) -> Canary:
    return Canary(
        prompt_token_ids=tuple(row["prompt_token_ids"]),
        images=tuple(row["images"]),
        response_token_ids=tuple(row["response_token_ids"]),
        log_probs=np.array(row["log_probs"], dtype=np.float32),
        base_log_probs=np.array(row["base_log_probs"], dtype=np.float32),
    )
