"""The named panels, and the folder where their games are kept between runs."""

import fcntl
import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envs.alfworld.cache import cache_folder
from envs.alfworld.errors import GenerationError
from envs.alfworld.generator import MANIFEST_FILE, Done, Panel, write_panel
from envs.alfworld.household import PACKAGE_VERSION
from envs.alfworld.scene import Difficulty

PANELS = {
    "tiny": Panel(Difficulty((3, 4), (2, 2)), train=48, valid_seen=12, valid_unseen=24),
    "tiny_many": Panel(Difficulty((3, 4), (2, 2)), train=1200, valid_seen=12, valid_unseen=300, seed=1),
    "small": Panel(Difficulty((6, 8), (6, 8)), train=96, valid_seen=24, valid_unseen=48),
    "full": Panel(Difficulty((16, 30), (20, 36), rooms=4, shared_places=0.2), train=96, valid_seen=24, valid_unseen=48),
}
"""From a room where random play sometimes wins to households of the official size."""

GENERATOR_VERSION = 1
"""Raised whenever the same recipe would give other files."""

_DEADLINE_S = 900.0


def panel_home(name: str) -> Path:
    """Where a named panel is kept, whether or not it has been generated; another recipe has another folder.

    Raises:
        KeyError: there is no such panel.
    """
    recipe = f"{PANELS[name]!r} {GENERATOR_VERSION} {PACKAGE_VERSION}"
    return cache_folder() / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def is_generated(folder: Path) -> bool:
    """True where a panel stands whole: its manifest is written last."""
    return (folder / MANIFEST_FILE).is_file()


def panel_folder(name: str, workers: int = 1, done: Done = lambda count, total: None) -> Path:
    """Folder of a named panel, generated on first use; safe when many processes ask at once.

    Args:
        name: a key of `PANELS`.
        workers: processes that generate, see `write_panel`.
        done: told of every game that this process generates.

    Raises:
        KeyError: there is no such panel.
        GenerationError: a game could not be built, or another process took too long to build the panel.
    """
    folder = panel_home(name)
    if is_generated(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not is_generated(folder):
            write_whole(PANELS[name], folder, workers, done)
    return folder


def write_whole(panel: Panel, folder: Path, workers: int = 1, done: Done = lambda count, total: None) -> str:
    """Generate beside the folder and rename last, so that what bears its name is whole.

    Args:
        panel: what to generate.
        folder: must not exist, or be empty; its parent must exist.
        workers: processes that generate, see `write_panel`.
        done: told of every game.

    Returns:
        Digest of all files: SHA-256 in hexadecimal.

    Raises:
        GenerationError: a game could not be built, or the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GenerationError(f"{folder} is not an empty folder; remove what is there, or name another")
    started = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        digest = write_panel(panel, started, workers, done)
        started.chmod(0o755)
        started.rename(folder)
    finally:
        shutil.rmtree(started, ignore_errors=True)
    return digest


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; the system releases it when its holder dies."""
    deadline = time.monotonic() + _DEADLINE_S
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise GenerationError(
                        f"waited {_DEADLINE_S:g} s for another process to generate {path.stem}; see whether the "
                        f"holder of {path} is alive"
                    ) from None
                time.sleep(0.2)
        yield
