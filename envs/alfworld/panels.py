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
from envs.alfworld.generator import MANIFEST_FILE, Panel, write_panel
from envs.alfworld.household import PACKAGE_VERSION
from envs.alfworld.scene import Difficulty

PANELS = {
    "tiny": Panel(Difficulty((3, 4), (2, 2)), train=48, valid_seen=12, valid_unseen=24),
    "small": Panel(Difficulty((6, 8), (6, 8)), train=96, valid_seen=24, valid_unseen=48),
    "full": Panel(Difficulty((16, 30), (20, 36), rooms=4, shared_places=0.2), train=96, valid_seen=24, valid_unseen=48),
}
"""From a room where random play sometimes wins to households of the official size."""

GENERATOR_VERSION = 1
"""Raised whenever the same recipe would give other files."""

_DEADLINE_S = 900.0


def panel_folder(name: str) -> Path:
    """Folder of a named panel, generated on first use; safe when many processes ask at once.

    Raises:
        KeyError: there is no such panel.
        GenerationError: a game could not be built, or another process took too long to build the panel.
    """
    panel = PANELS[name]
    recipe = f"{panel!r} {GENERATOR_VERSION} {PACKAGE_VERSION}"
    folder = cache_folder() / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if (folder / MANIFEST_FILE).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if not (folder / MANIFEST_FILE).is_file():
            _write(panel, folder)
    return folder


def _write(panel: Panel, folder: Path) -> None:
    """Generate beside the folder and rename last, so that what bears its name is whole."""
    started = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        write_panel(panel, started)
        started.chmod(0o755)
        started.rename(folder)
    finally:
        shutil.rmtree(started, ignore_errors=True)


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
