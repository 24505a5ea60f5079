"""Node-local home of adapter files: in memory (tmpfs) where possible, swept when its owner is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from protocol.adapter import AdapterPackage, adapter_name

_PREFIX = "croupier-adapters-"
_LOCK = "owner.lock"


class AdapterFolder:
    """A private folder with one sub-folder per adapter.

    The owner holds a file lock in it for as long as it lives, so a later server on the node can tell an orphan (its
    owner was killed) from a folder in use, across process namespaces too.

    Args:
        server_id: Goes into the folder's name, for people who look at the node.
        root: Where to make it; None: /dev/shm where that is writable, else the system's temporary folder.
    """

    def __init__(self, server_id: str, root: Path | None = None) -> None:
        root = root or _tmpfs()
        _sweep(root)
        safe_id = "".join(c if c.isalnum() else "-" for c in server_id)
        # Locked under a name that no sweep looks at: under its final name the folder is never without an owner.
        draft = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=root))
        self._lock = os.open(draft / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = root / f"{_PREFIX}{safe_id}-{draft.name.rpartition('-')[2]}"
        draft.rename(self.path)

    def write(self, package: AdapterPackage) -> Path:
        """Writes the package's two files; the sub-folder appears under its name only when complete."""
        final = self.path / adapter_name(package.manifest.policy_version)
        draft = final.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        (draft / "adapter_model.safetensors").write_bytes(memoryview(package.weights))
        (draft / "adapter_config.json").write_bytes(package.config)
        draft.rename(final)
        return final

    def remove(self, path: Path) -> None:
        """Removes one adapter's sub-folder."""
        shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Removes everything. Harmless when repeated."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _tmpfs() -> Path:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def _sweep(root: Path) -> None:
    """Removes folders whose owner is gone: their lock can be taken."""
    for folder in root.glob(f"{_PREFIX}*"):
        _with_free_lock(folder / _LOCK, lambda folder=folder: shutil.rmtree(folder, ignore_errors=True))


def _with_free_lock(path: Path, action: Callable[[], None]) -> None:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # another user's folder, or one that is being removed right now
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        action()
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
