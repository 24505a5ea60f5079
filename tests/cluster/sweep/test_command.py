"""The command starts what is missing, one process per run; the runs themselves are tests/cluster/test_loop.py's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.sweep import command
from cluster.sweep.command import sweep
from protocol.errors import ConfigError
from tests.cluster.running import LOCAL

FAILING = "seed=2"


@pytest.fixture
def started(monkeypatch):
    """Command lines of the runs, which leave a card and nothing else; one of them fails."""
    lines: list[list[str]] = []

    def run(words, **_):
        lines.append(words)
        folder, name = (
            next(w.partition("=")[2] for w in reversed(words) if w.startswith(key)) for key in ("runs_dir=", "name=")
        )
        if FAILING in words:
            return SimpleNamespace(wait=lambda: 1)
        home = Path(folder) / name
        home.mkdir(parents=True)
        rate = {"success_rate": 0.5, "recognition_accuracy": None}
        (home / "card.json").write_text(json.dumps({"results": {"after_greedy": rate}, "totals": {"rl_wall_s": 1.0}}))
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(Popen=run, STDOUT=subprocess.STDOUT))
    return lines


def test_runs_that_are_done_are_not_started_again(started, tmp_path, capsys):
    arguments = (LOCAL, [f"runs_dir={tmp_path}", "rollout.updates=3"], ["seed=0,1,2"])
    outcomes = sweep(*arguments)
    assert [one.results is not None for one in outcomes] == [True, True, False]
    assert [line[3:7] for line in started] == [["train", LOCAL, f"runs_dir={tmp_path}", "rollout.updates=3"]] * 3
    out = capsys.readouterr().out
    assert "seed-2: ended with exit code 1" in out
    written = json.loads((tmp_path / "local-sweep" / "sweep.json").read_text())
    assert [run["finished"] for run in written["runs"]] == [True, True, False]
    sweep(*arguments)
    assert len(started) == 4, "only the failed one"
    assert "seed-0: done before" in capsys.readouterr().out


def test_a_wrong_variant_is_found_before_anything_starts(started, tmp_path):
    with pytest.raises(ConfigError, match="thought_weight"):
        sweep(LOCAL, [f"runs_dir={tmp_path}"], ["learner.ppo.thought_weight=0,7"])
    with pytest.raises(ConfigError, match="resume has no effect"):
        sweep(LOCAL, [f"runs_dir={tmp_path}", "resume=somewhere"], ["seed=0"])
    assert started == []


SLOW_TO_STOP = """
import signal, sys, time
from pathlib import Path
def stop(*_):
    time.sleep(1.5)  # a checkpoint, and processes to end
    Path(sys.argv[1], "saved").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
Path(sys.argv[1], "running").touch()
time.sleep(60)
"""

SWEEPING = """
import signal, subprocess, sys
from cluster.sweep.command import _finish
signal.signal(signal.SIGINT, signal.default_int_handler)
_finish(subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]]))
"""


@pytest.mark.slow
def test_ctrl_c_leaves_the_run_the_time_to_keep_what_it_has(tmp_path):
    words = [sys.executable, "-c", SWEEPING, SLOW_TO_STOP, str(tmp_path)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, process_group=0)
    end = time.monotonic() + 60
    while not (tmp_path / "running").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert (tmp_path / "saved").exists()
