import io
import shutil
import socket
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from rich.console import Console

from cluster import doctor
from cluster.doctor import Check

ROOT = Path(__file__).parents[2]
H200 = ("NVIDIA H200, 143771 MiB",)
GIB = 1 << 30


@pytest.mark.parametrize(
    ("version", "ok"),
    [("3.10.13", False), ("3.11.0", True), ("3.11.7", True), ("3.12.9", True), ("3.13.0", False)],
)
def test_python(version, ok):
    assert doctor.check_python(version).ok is ok


@pytest.mark.parametrize(
    ("build", "gpus", "ok"),
    [
        ("", (), False),
        ("2.13.0+cpu", (), True),
        ("2.13.0+cpu", H200, False),
        ("2.13.0+cu130", H200, True),
        ("2.13.0+cu130", (), True),
    ],
)
def test_torch(build, gpus, ok):
    assert doctor.check_torch(build, gpus).ok is ok


@pytest.mark.parametrize(
    ("version", "misfits", "ok"),
    [
        ("", [], False),
        ("0.25.1", [], False),
        ("0.26.0", [], True),
        ("0.32.0+cpu", [], True),
        ("0.33.2", [], True),
        ("0.33.0", ["wants torch==2.14.0, found 2.13.0"], False),
        ("0.34.0", [], False),
    ],
)
def test_vllm(version, misfits, ok):
    check = doctor.check_vllm(version, "vllm", misfits)
    assert check.ok is ok
    assert all(misfit in check.detail for misfit in misfits)


def test_cpu_setup_problems_become_one_check_with_the_cure():
    assert doctor.check_cpu_setup([]) == Check("cpu setup", True, "sound", "")
    ill = doctor.check_cpu_setup(["torchaudio is there", "the hook is missing"])
    assert (ill.ok, ill.detail) == (False, "torchaudio is there; the hook is missing")
    assert "python -m cluster.cpu_setup" in ill.cure


@pytest.mark.parametrize(
    ("version", "wanted", "ok"),
    [("2.60.0", ">=2.60,<3", True), ("2.59.1", ">=2.60,<3", False), ("", "", False), ("1.0", "", True)],
)
def test_library(version, wanted, ok):
    assert doctor.check_library("ray", version, SpecifierSet(wanted)).ok is ok


@pytest.mark.parametrize("check", [doctor.check_shared_memory, doctor.check_disk])
@pytest.mark.parametrize(("free_gib", "ok"), [(0.5, False), (100, True)])
def test_free_space(tmp_path, monkeypatch, check, free_gib, ok):
    usage = namedtuple("usage", "total used free")(200 * GIB, 0, int(free_gib * GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    result = check(tmp_path)
    assert result.ok is ok
    assert f"{free_gib:.1f} GiB free" in result.detail


def test_a_system_without_shared_memory_folder_is_sound(tmp_path):
    assert doctor.check_shared_memory(tmp_path / "shm").ok


@pytest.mark.parametrize("address", ["", "local", "auto"])
def test_ray_address_that_names_no_cluster_is_not_probed(address):
    assert doctor.check_ray_address({"RAY_ADDRESS": address} if address else {}).ok


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "http://127.0.0.1:{}"])
def test_ray_address_is_reached_or_not(form):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = form.format(server.getsockname()[1])
        assert doctor.check_ray_address({"RAY_ADDRESS": address}).ok
    after = doctor.check_ray_address({"RAY_ADDRESS": address}, deadline_s=0.5)
    assert not after.ok and "0.5 s" in after.detail and "RAY_ADDRESS" in after.cure


@pytest.mark.parametrize("address", ["head:port", "head:99999", ":6379", "ray://"])
def test_malformed_ray_address_is_named(address):
    check = doctor.check_ray_address({"RAY_ADDRESS": address})
    assert not check.ok and address in check.detail and "host:6379" in check.cure


@pytest.mark.parametrize(("text", "ok"), [(None, True), ("1", True), ("0", False), ("9999", False), ("x", False)])
def test_threads(text, ok):
    environment = {} if text is None else {"OMP_NUM_THREADS": text}
    assert doctor.check_threads(environment).ok is ok


def write_script(folder: Path, text: str) -> str:
    path = folder / "fake-smi"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_gpus_are_read_line_by_line(tmp_path):
    command = write_script(tmp_path, "echo 'NVIDIA A, 10 MiB'; echo 'NVIDIA B, 20 MiB'")
    assert doctor.find_gpus(command) == ("NVIDIA A, 10 MiB", "NVIDIA B, 20 MiB")


def test_no_gpus_without_a_working_driver(tmp_path, monkeypatch):
    assert doctor.find_gpus("no-such-command") == ()
    assert doctor.find_gpus(write_script(tmp_path, "echo 'no devices were found'; exit 9")) == ()
    monkeypatch.setattr(doctor, "GPU_DEADLINE_S", 0.2)
    assert doctor.find_gpus(write_script(tmp_path, "exec sleep 30")) == ()


def write_metadata(folder: Path, name: str, version: str, *requirements: str) -> None:
    (folder / f"{name}-{version}.dist-info").mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text("\n".join(lines) + "\n")


def test_misfits_of_a_distribution(tmp_path, monkeypatch):
    write_metadata(tmp_path, "hull", "2.13.0+cpu")
    write_metadata(tmp_path, "sail", "1.0")
    write_metadata(tmp_path, "oar", "3.0")
    wants = [
        "hull==2.13.0+cpu",
        "sail>=2",
        'oar<1; extra == "row"',
        'oar<2; sys_platform == "amiga"',
        "mast>1",
    ]
    write_metadata(tmp_path, "boat", "0.1", *wants)
    monkeypatch.syspath_prepend(tmp_path)
    names = ("hull", "sail", "oar", "mast")
    assert doctor.find_misfits("boat", names) == ["wants sail>=2, found 1.0"]
    assert doctor.find_misfits("boat", ("hull",)) == []
    assert doctor.find_misfits("no-such-distribution", names) == []
    assert doctor.find_misfits("", names) == []


def test_exit_code_and_cures_follow_the_checks(monkeypatch):
    good, bad = Check("sea", True, "calm"), Check("hull", False, "a leak [red]", "plug it [bold]")
    for checks, code in (([good], 0), ([good, bad], 1)):
        monkeypatch.setattr(doctor, "run_checks", lambda checks=checks: checks)
        out = io.StringIO()
        assert doctor.run_doctor(Console(file=out, width=100)) == code
        assert ("plug it [bold]" in out.getvalue()) is bool(code)
        assert ("a leak [red]" in out.getvalue()) is bool(code)


def test_this_environment_is_sound():
    """What is installed; not the room on this machine, nor a GPU that the CPU tests leave alone."""
    installed = {"python", "cpu setup", "vllm", *doctor.LIBRARIES}
    checks = [check for check in doctor.run_checks() if check.name in installed]
    assert len(checks) == len(installed)
    assert [check for check in checks if not check.ok] == []


def test_speaks_without_the_heavy_imports():
    code = (
        "import sys; from cluster import doctor; doctor.run_checks();"
        "print(sorted({'torch', 'vllm', 'ray', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr
