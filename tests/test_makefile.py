"""`make env`, run for real on a stand-in interpreter that writes down what it is asked to do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("bash", "cat", "cksum", "grep", "make", "mkdir", "rm", "sleep", "touch")
COMPILERS = ("cc", "c++")

PYTHON = """#!/bin/bash
echo "$@" >> "{log}"
case "$*" in
  *" wheel "*) echo "python is $(command -v python)" >> "{log}"; eval "$ON_WHEEL" ;;
  *" -e "*) eval "$ON_INSTALL" ;;
esac
"""


@dataclass
class Machine:
    """A folder of programs, an environment with a stand-in for Python, and the log of its calls."""

    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    @property
    def calls(self) -> list[str]:
        log = self.folder / "log"
        return [line.removeprefix("-m ") for line in log.read_text().splitlines()] if log.is_file() else []

    def start(self, *settings: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.folder / "bin" / "make", "env", f"VENV={self.venv}", *settings],
            cwd=ROOT,
            env={"PATH": str(self.folder / "bin"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            # A job in the background, as these tests may be, ignores Ctrl-C, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def make(self, *settings: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*settings, **environment)
        output, errors = process.communicate(timeout=30)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with compilers (which are never called)."""
    made = Machine(tmp_path)
    for folder in (tmp_path / "bin", made.venv / "bin"):
        folder.mkdir(parents=True)
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or pytest.fail(f"{tool} is not installed"))
    for tool in COMPILERS:
        write_program(tmp_path / "bin" / tool, "#!/bin/bash\nexit 1\n")
    write_program(made.venv / "bin" / "python", PYTHON.format(log=tmp_path / "log"))
    return made


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def stamps(machine: Machine) -> list[str]:
    return [path.name.rpartition("-")[0] for path in machine.venv.glob(".installed-*")]


def test_alfworld_is_installed_by_default_from_what_was_compiled_beside_the_rest(machine):
    done = machine.make()
    assert done.returncode == 0, done.stderr
    (wheel,) = [call for call in machine.calls if " wheel " in call]
    assert wheel.endswith("fast-downward-textworld jericho")
    assert f"python is {machine.venv}/bin/python" in machine.calls, "the build calls python by this name"
    others, alfworld = [call for call in machine.calls if " -e " in call]
    assert "-e .[cpu,dev] -c constraints/cpu-py311.txt" in others
    assert f"--find-links {machine.venv}/wheels -e .[alfworld] -c constraints/cpu-py311.txt" in alfworld
    assert machine.calls[-1] == "cluster.cpu_setup"
    assert stamps(machine) == [".installed-cpu-dev-alfworld"]


def test_what_is_installed_is_not_installed_again(machine):
    machine.make()
    calls = len(machine.calls)
    assert machine.make().returncode == 0
    assert len(machine.calls) == calls


@pytest.mark.parametrize("missing", COMPILERS)
def test_without_a_compiler_alfworld_is_left_out_and_named(machine, missing):
    (machine.folder / "bin" / missing).unlink()
    done = machine.make()
    assert done.returncode == 0, done.stderr
    assert f"leaving out ALFWorld: {missing} not found" in done.stdout
    assert "apt-get install build-essential" in done.stdout
    assert not [call for call in machine.calls if "wheel" in call or "alfworld" in call]
    assert stamps(machine) == [".installed-cpu-dev"]
    write_program(machine.folder / "bin" / missing, "#!/bin/bash\n")
    machine.make()
    assert stamps(machine) == [".installed-cpu-dev-alfworld"], "a compiler that arrives later is noticed"


@pytest.mark.parametrize(
    ("extras", "constraints"),
    [("cpu,dev", "cpu-py311"), ("gpu,dev", "gpu"), ("gpu", "gpu")],
)
def test_other_extras_need_no_compiler(machine, extras, constraints):
    for tool in COMPILERS:
        (machine.folder / "bin" / tool).unlink()
    done = machine.make(f"EXTRAS={extras}")
    assert done.returncode == 0, done.stderr
    assert "leaving out" not in done.stdout
    (install,) = [call for call in machine.calls if " -e " in call]
    assert f"-e .[{extras}] -c constraints/{constraints}.txt" in install


def test_a_failed_compilation_ends_the_installation_and_says_how_to_do_without(machine):
    done = machine.make(ON_WHEEL="exit 3")
    assert done.returncode != 0
    assert "To do without it: make env EXTRAS=cpu,dev" in done.stderr
    assert stamps(machine) == []


def test_alfworld_alone_is_possible(machine):
    assert machine.make("EXTRAS=alfworld").returncode == 0
    others, alfworld = [call for call in machine.calls if " -e " in call]
    assert "-e . -c" in others and "-e .[alfworld] -c" in alfworld


def test_a_failed_installation_ends_the_compilation(machine):
    compiler = Compiler(machine)
    done = machine.make(ON_WHEEL=compiler.starts, ON_INSTALL=f"{compiler.has_started}; exit 3")
    assert done.returncode != 0
    assert stamps(machine) == []
    compiler.check_ends()


def test_an_interrupt_ends_the_compilation(machine):
    compiler = Compiler(machine)
    process = machine.start(ON_WHEEL=compiler.starts, ON_INSTALL=f"{compiler.has_started}; exec sleep 100")
    while not any(" -e " in call for call in machine.calls):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert stamps(machine) == []
    compiler.check_ends()


class Compiler:
    """A process that the build of the wheels starts and waits for."""

    def __init__(self, machine: Machine) -> None:
        self._pid = machine.folder / "pid"
        self.starts = f'sleep 100 & echo $! > "{self._pid}"; wait'
        self.has_started = f'until [ -s "{self._pid}" ]; do sleep 0.01; done'

    def check_ends(self) -> None:
        end = time.monotonic() + 20
        while self._is_alive():
            assert time.monotonic() < end, "the compiler goes on"
            time.sleep(0.01)

    def _is_alive(self) -> bool:
        try:
            return "Z" not in Path(f"/proc/{int(self._pid.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
