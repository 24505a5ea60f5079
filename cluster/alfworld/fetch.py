"""Fetching ALFWorld's own data with the package's own downloader, as far as the text games need it.

The downloader is a script beside the interpreter, not a module. Run as it stands it also fetches the planner's files
and a detector of objects (hundreds of megabytes) that nothing here reads, so its functions are called one by one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import zipfile
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from envs.alfworld.errors import INSTALL, GameFilesError
from envs.errors import EnvSetupError

SCRIPT = "alfworld-download"
ARCHIVES = ("JSON_FILES_URL", "TW_PDDL_FILES_URL")
"""The script's names for what is needed: the tasks, and the worlds."""
SILENCE_S = 60.0
"""Longest wait for the next bytes of a download; the script itself would wait for ever."""


def fetch(data: Path, force: bool = False) -> list[str]:
    """Download and unpack the text games below `data`; what is there already stays, unless `force` is set.

    The script shows its progress on stderr. An interrupted download goes on where it was.

    Returns:
        Addresses of the archives.

    Raises:
        EnvSetupError: ALFWorld is not installed, or is not the version that this was written for.
        GameFilesError: there is no connection, not enough space, or an archive is damaged.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GameFilesError(f"cannot write to {data}: {error}; name another folder with --data") from error
    os.environ["ALFWORLD_DATA"] = str(data)  # the package makes that folder when it is imported
    script: Any = downloader()
    missing = [name for name in ("download", "unzip", "requests", *ARCHIVES) if not hasattr(script, name)]
    if missing:
        raise EnvSetupError(
            f"the downloader of alfworld {importlib.metadata.version('alfworld')} has no {missing[0]}; install "
            "alfworld==0.4.2, or run `alfworld-download` itself"
        )
    script.requests = SimpleNamespace(get=partial(script.requests.get, timeout=SILENCE_S))
    addresses = [str(getattr(script, name)) for name in ARCHIVES]
    for address in addresses:
        try:
            archive = Path(script.download(address, dst=str(data), force=force))
            script.unzip(str(archive), dst=str(data), force=force)
            archive.unlink()
        # Failures of the connection are OSErrors too; an answer without a length ends in TypeError.
        except (OSError, TypeError, zipfile.BadZipFile) as error:
            if isinstance(error, zipfile.BadZipFile):  # the script would take it for a finished download for ever
                (data / address.rpartition("/")[2]).unlink(missing_ok=True)
            raise GameFilesError(
                f"could not fetch {address} into {data}: {type(error).__name__}: {error}; check the connection and "
                "the free space, or copy the folder json_2.1.1 from a machine that has it"
            ) from error
    return addresses


def downloader() -> ModuleType:
    """The installed script as a module.

    Raises:
        EnvSetupError: ALFWorld is not installed.
    """
    try:
        files = importlib.metadata.files("alfworld") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise EnvSetupError(INSTALL) from error
    paths = [Path(str(file.locate())) for file in files if file.name == SCRIPT]
    if not paths or not paths[0].is_file():
        raise EnvSetupError(f"the installed alfworld came without its script {SCRIPT}; install alfworld==0.4.2 anew")
    loader = SourceFileLoader("alfworld_download", str(paths[0]))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None  # the loader is given
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
