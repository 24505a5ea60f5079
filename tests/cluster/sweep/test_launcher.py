"""Processes of a sweep share the machine as told, and are left the time to end well."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cluster.sweep.launcher import Launch, run_all

ALONE = """
import sys, time
from pathlib import Path
mine, others = Path(sys.argv[1], sys.argv[2]), Path(sys.argv[1])
mine.touch()
print("with", len(list(others.iterdir())))
time.sleep(0.3)
mine.unlink()
sys.exit(int(sys.argv[2] == "2"))
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_so_many_at_a_time(tmp_path, jobs):
    (tmp_path / "up").mkdir()
    codes = {}
    launches = [
        Launch(str(n), (sys.executable, "-c", ALONE, str(tmp_path / "up"), str(n)), tmp_path / f"{n}.txt")
        for n in range(4)
    ]
    run_all(launches, jobs, lambda launch, code: codes.update({launch.name: code}))
    assert codes == {"0": 0, "1": 0, "2": 1, "3": 0}
    together = [int((tmp_path / f"{n}.txt").read_text().split()[1]) for n in range(4)]
    assert max(together) <= jobs


SLOW_TO_STOP = """
import signal, sys, time
from pathlib import Path
def stop(*_):
    time.sleep(1.5)  # a checkpoint, and processes to end
    Path(sys.argv[1], "saved-" + sys.argv[2]).touch()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
Path(sys.argv[1], "running-" + sys.argv[2]).touch()
time.sleep(60)
"""

SWEEPING = """
import signal, sys
from pathlib import Path
from cluster.sweep.launcher import Launch, run_all
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = sys.argv[2]
names = ("a", "b")
commands = [Launch(n, (sys.executable, "-c", sys.argv[1], folder, n), Path(folder, n + ".txt")) for n in names]
run_all(commands, 2, print)
"""


@pytest.fixture
def sweeping(tmp_path):
    """A process that runs two slow commands, in a group of its own."""
    words = [sys.executable, "-c", SWEEPING, SLOW_TO_STOP, str(tmp_path)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, process_group=0)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("running-*"))) < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_ctrl_c_leaves_the_runs_the_time_to_keep_what_they_have(sweeping, tmp_path):
    os.killpg(sweeping.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in sweeping.communicate(timeout=60)[1]
    assert len(list(tmp_path.glob("saved-*"))) == 2


@pytest.mark.slow
def test_a_sweep_that_is_terminated_ends_its_runs(sweeping, tmp_path):
    os.kill(sweeping.pid, signal.SIGTERM)
    sweeping.communicate(timeout=60)
    assert sweeping.returncode == 128 + signal.SIGTERM
    assert len(list(tmp_path.glob("saved-*"))) == 2
