"""Files of one adapter in its home on a node: the PEFT folder that engines read, and the record that vouches for it."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from actors.adapter_checks import check_digest, digest_error, header_bytes
from protocol.adapter import AdapterPackage

_WEIGHTS, _CONFIG, _RECORD = "adapter_model.safetensors", "adapter_config.json", "record.json"


def peft_folder(home: Path, package: AdapterPackage) -> Path:
    """Where engines find the adapter."""
    return home / package.manifest.name


def write_files(home: Path, package: AdapterPackage, server_id: str) -> None:
    """Writes the adapter, in place of whatever a writer left who died; the caller has the home alone.

    The record comes last, under its name only when complete, and after the check of the digest.

    Raises:
        AdapterRejected: the bytes are not those of the manifest.
        OSError: they do not go there.
    """
    folder = peft_folder(home, package)
    (home / _RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with ThreadPoolExecutor(1) as checker:  # hashes the bytes while they are written
        verdict = checker.submit(check_digest, package)
        (folder / _WEIGHTS).write_bytes(memoryview(package.weights))
        (folder / _CONFIG).write_bytes(package.config)
        verdict.result()
    record = {
        "digest": package.manifest.digest.hex(),
        "files": _identity(folder),
        "written_by": f"{server_id}, process {os.getpid()}",
    }
    draft = home / f"{_RECORD}.draft"
    draft.write_text(json.dumps(record, indent=2) + "\n")
    draft.rename(home / _RECORD)


def are_proven(home: Path, package: AdapterPackage) -> bool:
    """Whether the record vouches for the digest, and no file was changed, cut or replaced since."""
    try:
        record = json.loads((home / _RECORD).read_bytes())
        return (record["digest"], record["files"]) == (
            package.manifest.digest.hex(),
            _identity(peft_folder(home, package)),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_agreement(home: Path, package: AdapterPackage) -> None:
    """Checks that a package is the one which proven files were made of, as far as a server looks into it.

    What the server has read of its package, the configuration and the tensors' names, is what its engine will load.

    Raises:
        AdapterRejected: then it is the package whose bytes are not those of the manifest.
    """
    folder, header = peft_folder(home, package), header_bytes(package)
    with (folder / _WEIGHTS).open("rb") as file:
        same = file.read(len(header)) == header and os.fstat(file.fileno()).st_size == len(package.weights)
    if not same or (folder / _CONFIG).read_bytes() != package.config:
        raise digest_error(package)


def _identity(folder: Path) -> dict[str, list[int]]:
    """Size, inode and time of the last change of each file."""
    stats = {name: os.stat(folder / name) for name in (_WEIGHTS, _CONFIG)}
    return {name: [found.st_size, found.st_ino, found.st_mtime_ns] for name, found in stats.items()}
