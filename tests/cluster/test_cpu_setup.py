import subprocess
import sys
from pathlib import Path

import pytest

from cluster import cpu_setup, torchvision_hook

ROOT = Path(__file__).parents[2]
CPU, CUDA = "2.13.0+cpu", "0.28.0+cu130"

# Stand-ins that behave as the real pair does: torchvision's body fails unless torch knows the operator names.
FAKE_TORCH = """
class _Namespace: pass
class ops: torchvision = _Namespace()
class Library:
    def __init__(self, namespace, kind): assert (namespace, kind) == ("torchvision", "FRAGMENT")
    def define(self, schema): setattr(ops.torchvision, schema.split("(")[0], schema)
class library: Library = Library
from torch.version import __version__
"""
FAKE_TORCHVISION = """
import torch
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        raise RuntimeError(f"operator torchvision::{name} does not exist")
"""


def write_package(folder: Path, name: str, version: str, body: str = "") -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(body)
    (folder / name / "version.py").write_text(f"__version__ = '{version}'\ngit_version = 'abc'\n")


def run_in_environment(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code in an interpreter whose only site-packages is `folder`, `.pth` files included."""
    start = f"import site, sys; site.addsitedir({str(folder)!r}); {code}"
    return subprocess.run([sys.executable, "-S", "-c", start], capture_output=True, text=True, timeout=60)


@pytest.fixture
def cpu_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with a CPU torch, a CUDA torchvision, and neither torchaudio nor torchcodec."""
    builds = {"torch": CPU, "torchvision": CUDA}
    monkeypatch.setattr(torchvision_hook, "build_of", lambda package: builds.get(package, ""))
    monkeypatch.setattr(cpu_setup, "UNUSED_PACKAGES", ())


@pytest.mark.parametrize(
    ("torch_build", "torchvision_build", "needed"),
    [
        ("2.13.0+cpu", "0.28.0+cu130", True),
        ("2.13.0+cpu", "0.28.0+cpu", False),
        ("2.13.0+cpu", "", False),
        ("2.13.0+cpu", "0.28.0a0+1f2e3d4", False),
        ("2.13.0+cu130", "0.28.0+cu130", False),
        ("2.13.0", "0.28.0", False),
        ("", "0.28.0+cu130", False),
    ],
)
def test_only_a_cpu_torch_with_a_cuda_torchvision_needs_the_hook(torch_build, torchvision_build, needed):
    assert torchvision_hook.is_needed(torch_build, torchvision_build) is needed


def test_build_comes_from_the_version_file(tmp_path, monkeypatch):
    write_package(tmp_path, "boat", "1.2.0+cu130", body="raise AssertionError('imported')")
    (tmp_path / "raft").mkdir()
    (tmp_path / "raft" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert torchvision_hook.build_of("boat") == "1.2.0+cu130"
    assert torchvision_hook.build_of("raft") == ""
    assert torchvision_hook.build_of("no_such_package") == ""


@pytest.mark.usefixtures("cpu_environment")
def test_apply_cures_and_may_be_repeated(tmp_path):
    assert len(cpu_setup.problems(tmp_path)) == 1
    assert len(cpu_setup.apply(tmp_path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "croupier_torchvision_hook.pth",
        "croupier_torchvision_hook.py",
    ]
    assert cpu_setup.problems(tmp_path) == []
    assert cpu_setup.apply(tmp_path) == []


@pytest.mark.usefixtures("cpu_environment")
@pytest.mark.parametrize("name", ["croupier_torchvision_hook.py", "croupier_torchvision_hook.pth"])
def test_an_outdated_hook_is_a_problem_and_is_replaced(tmp_path, name):
    cpu_setup.apply(tmp_path)
    right = (tmp_path / name).read_text()
    (tmp_path / name).write_text("# of an earlier version\n")
    assert "outdated" in cpu_setup.problems(tmp_path)[0]
    cpu_setup.apply(tmp_path)
    assert (tmp_path / name).read_text() == right


@pytest.mark.parametrize("torch_build", ["2.13.0+cu130", "2.14.0", ""])
def test_nothing_happens_without_a_cpu_torch(tmp_path, monkeypatch, torch_build):
    builds = {"torch": torch_build, "torchvision": CUDA}
    monkeypatch.setattr(torchvision_hook, "build_of", lambda package: builds[package])
    monkeypatch.setattr(cpu_setup, "UNUSED_PACKAGES", ("pytest",))
    assert cpu_setup.problems(tmp_path) == []
    assert cpu_setup.apply(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("cpu_environment")
def test_unused_packages_are_uninstalled_in_one_call(tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        assert options["timeout"] == cpu_setup.UNINSTALL_DEADLINE_S
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(cpu_setup, "UNUSED_PACKAGES", ("pytest", "surely-not-installed", "numpy"))
    monkeypatch.setattr(subprocess, "run", run)
    assert cpu_setup.problems(tmp_path)[:2] == [
        f"pytest is installed beside torch {CPU}",
        f"numpy is installed beside torch {CPU}",
    ]
    assert cpu_setup.apply(tmp_path)[0] == "uninstalled pytest, numpy"
    assert commands == [[sys.executable, "-m", "pip", "uninstall", "--yes", "pytest", "numpy"]]


def fail(command, **options):
    return subprocess.CompletedProcess(command, 1, "", "not writable\n")


def hang(command, **options):
    raise subprocess.TimeoutExpired(command, options["timeout"])


@pytest.mark.usefixtures("cpu_environment")
@pytest.mark.parametrize(("run", "message"), [(fail, "not writable"), (hang, "more than 180 s")])
def test_a_failed_uninstall_is_reported_with_its_reason(tmp_path, monkeypatch, capsys, run, message):
    monkeypatch.setattr(cpu_setup, "UNUSED_PACKAGES", ("pytest",))
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeError, match=message):
        cpu_setup.apply(tmp_path)
    assert cpu_setup.main([]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("cpu_environment")
def test_check_reports_and_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cpu_setup, "site_packages", lambda: tmp_path)
    assert cpu_setup.main(["--check"]) == 1
    assert cpu_setup.CURE in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert cpu_setup.main([]) == 0
    assert cpu_setup.main(["--check"]) == 0


@pytest.mark.usefixtures("cpu_environment")
def test_hook_lets_torchvision_in_and_stays_lazy(tmp_path):
    write_package(tmp_path, "torch", CPU, FAKE_TORCH)
    write_package(tmp_path, "torchvision", CUDA, FAKE_TORCHVISION)
    before = run_in_environment(tmp_path, "import torchvision")
    assert "operator torchvision::nms does not exist" in before.stderr
    cpu_setup.apply(tmp_path)
    after = run_in_environment(
        tmp_path,
        "import importlib.util; assert importlib.util.find_spec('torchvision');"
        "assert 'torch' not in sys.modules and 'typing' not in sys.modules;"
        "import torchvision; import torch; print(torch.ops.torchvision.qnms)",
    )
    assert after.stderr == ""
    assert after.stdout.strip() == "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@pytest.mark.usefixtures("cpu_environment")
@pytest.mark.parametrize(("torch_build", "torchvision_build"), [("2.13.0+cu130", CUDA), (CPU, "0.28.0+cpu")])
def test_hook_is_idle_beside_a_sound_pair(tmp_path, torch_build, torchvision_build):
    write_package(tmp_path, "torch", torch_build, FAKE_TORCH)
    write_package(tmp_path, "torchvision", torchvision_build)
    cpu_setup.apply(tmp_path)
    result = run_in_environment(tmp_path, "import torchvision, torch; assert not hasattr(torch.ops.torchvision, 'nms')")
    assert result.stderr == ""


def test_this_environment_is_sound_and_children_import_torchvision():
    assert cpu_setup.problems() == []
    code = (
        "import multiprocessing, importlib\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=importlib.import_module,"
        " args=('torchvision.transforms.v2',))\n"
        "    child.start(); child.join(90); raise SystemExit(child.exitcode)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")


def test_needs_the_standard_library_alone():
    """Without site-packages nothing else can be imported."""
    command = [sys.executable, "-S", "-m", "cluster.cpu_setup", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "CPU setup: sound\n"), result.stderr
