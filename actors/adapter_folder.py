"""Node-local home of adapter files: in memory (tmpfs) where possible, one copy for all servers of the node."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
import tempfile
import time
from pathlib import Path

from actors.adapter_files import are_proven, check_agreement, peft_folder, write_files
from actors.shared_folder import SharedFolder, sweep
from protocol.adapter import AdapterPackage
from protocol.errors import DeadlineExceeded, ServerStartError

PATIENCE_S = 30.0
"""Longest wait for another server that writes the same adapter, in seconds."""

_POLL_S = 0.005

_log = logging.getLogger(__name__)


class AdapterFolder:
    """What one server holds of the adapters on its node.

    An adapter has one home per node and user, named after version and digest. The first server that needs it checks
    the digest of its package and writes the files and a record of them. The others trust a record whose files are
    still those, and read no weights. A writer that dies leaves no record, and the next server begins again. The last
    one that lets go of an adapter removes it; what killed servers held, the next one that starts removes.

    Where nothing can be shared, because the files of an adapter in use were changed or its writer stands still, a
    server makes a copy of its own.

    Args:
        server_id: Named in records, for people who look at the node.
        root: Where the homes are; None: /dev/shm where that is writable, else the system's temporary folder.
        patience_s: Longest wait for another server that writes the same adapter.

    Raises:
        ServerStartError: the place for this user's adapters belongs to another one.
    """

    def __init__(self, server_id: str, root: Path | None = None, patience_s: float = PATIENCE_S) -> None:
        self._server_id = server_id
        self._patience_s = patience_s
        self._held: dict[Path, SharedFolder] = {}
        self.path = (root or _tmpfs()) / f"croupier-adapters-{os.geteuid()}"
        self._make()
        with contextlib.suppress(FileNotFoundError):  # the last of the others has just left
            sweep(self.path)

    def hold(self, package: AdapterPackage) -> Path:
        """The adapter's PEFT folder, written if no server of the node did; it stays until `release`.

        Raises:
            AdapterRejected: the bytes are not those of the manifest.
            DeadlineExceeded: not even a copy of its own is left to this server.
            OSError: the bytes do not go there.
        """
        name = f"{package.manifest.name}-{package.manifest.digest.hex()}"
        home = self._enter(self.path / name, package)
        if home is None:
            home = self._enter(self.path / f"{name}-{secrets.token_hex(4)}", package)
        if home is None:
            raise DeadlineExceeded(f"waited {self._patience_s:g} s for a folder in {self.path} that nobody touches.")
        path = peft_folder(home.path, package)
        if self._held.setdefault(path, home) is not home:
            home.close()
        return path

    def release(self, path: Path) -> None:
        """Lets go of an adapter; the last server of the node removes its files. Harmless when repeated."""
        home = self._held.pop(path, None)
        if home is None:
            return
        if home.take_alone():
            home.remove()
        else:
            home.close()

    def close(self) -> None:
        """Lets go of everything. Harmless when repeated."""
        for path in list(self._held):
            self.release(path)
        with contextlib.suppress(OSError):  # others are in it
            self.path.rmdir()

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ServerStartError(
                f"{self.path}, the place for adapters of user {os.geteuid()}, is no folder or belongs to user "
                f"{found.st_uid}.",
                "remove it, or have its owner remove it",
            )

    def _enter(self, place: Path, package: AdapterPackage) -> SharedFolder | None:
        """The home at a place, shared and with proven files; None when it cannot be had."""
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            home = SharedFolder.open(place) or SharedFolder.create(place)
            if home is None:
                self._make()
            elif home.take_alone():
                self._prove(home, package)
                # On the way from alone to shared another server may have had it alone; then once more.
                if home.take_shared() and are_proven(place, package):
                    return _agreeing(home, package)
                home.close()
            elif home.take_shared():
                if are_proven(place, package):
                    return _agreeing(home, package)
                home.close()
                _log.warning("Server %s: files in %s were changed while in use", self._server_id, place)
                return None
            else:  # somebody writes
                home.close()
            time.sleep(_POLL_S)
        _log.warning("Server %s waited %g s for %s to be written", self._server_id, self._patience_s, place)
        return None

    def _prove(self, home: SharedFolder, package: AdapterPackage) -> None:
        """Sees to proven files in a home that this server has alone."""
        if are_proven(home.path, package):
            return
        try:
            write_files(home.path, package, self._server_id)
        except BaseException:
            home.remove()
            raise


def _agreeing(home: SharedFolder, package: AdapterPackage) -> SharedFolder:
    try:
        check_agreement(home.path, package)
    except BaseException:
        home.close()
        raise
    return home


def _tmpfs() -> Path:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
