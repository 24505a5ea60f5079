"""A folder that processes of one node share, and which the last of them removes.

Whoever uses the folder holds a file lock in it: one alone to change it, many at once to read it. The system takes the
lock away from a process that dies, in whatever process namespace, so nobody waits for the dead and what only they used
can be told from what is in use. Files, not processes, are all that this knows about.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path

_LOCK = "lock"


class SharedFolder:
    """One process's hold on a folder. `create` and `open` make it; `close` or `remove` ends it.

    The lock belongs to this object, not to the process: two of one process keep each other out like strangers.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, path: Path) -> SharedFolder | None:
        """Makes the folder, which is this object's alone at once; None when it exists, or its parent is gone."""
        try:
            # Locked under another name: under its own the folder is never without an owner.
            draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        except FileNotFoundError:
            return None
        folder = cls(path, -1)
        try:
            folder._lock = os.open(draft / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(folder._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(path)
        except OSError:  # another one was there first, or the draft was swept before it was locked
            folder.close()
            shutil.rmtree(draft, ignore_errors=True)
            if path.exists() or not draft.exists():
                return None
            raise
        return folder

    @classmethod
    def open(cls, path: Path) -> SharedFolder | None:
        """Finds the folder, without a right to it yet; None when there is none, or it is another user's."""
        try:
            return cls(path, os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            return None

    def take_alone(self) -> bool:
        """Whether nobody else uses the folder, and none will until the next call; a failure ends what was held."""
        return self._take(fcntl.LOCK_EX)

    def take_shared(self) -> bool:
        """Whether nobody changes the folder, and none will until the next call; a failure ends what was held.

        Whoever had it alone may lose it to another one here, who can have changed it: look again.
        """
        return self._take(fcntl.LOCK_SH)

    def remove(self) -> None:
        """Removes the folder, for which this object has to have it alone, and closes."""
        # First out of its place: nobody finds half of it. The lock goes last: whatever is left can still be swept.
        gone = self.path.with_name(f".{self.path.name}-{secrets.token_hex(4)}")
        try:
            self.path.rename(gone)
            for entry in gone.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
            shutil.rmtree(gone, ignore_errors=True)
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of the folder. Harmless when repeated."""
        if self._lock >= 0:
            # A forked child may hold a copy of the descriptor: closing ours alone would not do.
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = -1

    def _take(self, kind: int) -> bool:
        try:
            fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._is_in_place()

    def _is_in_place(self) -> bool:
        """Whether the lock is that of the folder under this path, not of one that was removed meanwhile."""
        try:
            return os.path.samestat(os.fstat(self._lock), os.stat(self.path / _LOCK))
        except FileNotFoundError:
            return False


def sweep(parent: Path) -> None:
    """Removes the shared folders in `parent` that nobody uses."""
    for path in list(parent.iterdir()):
        folder = SharedFolder.open(path)
        if folder is None:
            with contextlib.suppress(OSError):  # a draft whose maker died at once; one who lives makes another
                path.rmdir()
        elif folder.take_alone():
            folder.remove()
        else:
            folder.close()
