"""Runs the command line as a user does: in a process of its own, with a deadline, leaving nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parents[2]
LOCAL = "cluster/configs/local.yaml"


def environment(**more: str) -> dict[str, str]:
    """This process's environment without a Ray cluster, with the interpreter's folder first on PATH."""
    values = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_JOB_ID")}
    values["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{values['PATH']}"
    return values | more


def start(*arguments: str, log: Path, **more: str) -> subprocess.Popen[bytes]:
    """Start `python -m cluster ...` in its own process group, as a terminal would, with its output in `log`."""
    command = [sys.executable, "-m", "cluster", *arguments]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment(**more), stdout=output, stderr=subprocess.STDOUT, process_group=0
        )


def finish(process: subprocess.Popen[bytes], log: Path, deadline_s: float) -> str:
    """Wait for the end, and return the output; fails when the process does, or does not end in time."""
    try:
        code = process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        interrupt(process)
        process.wait(60)
        raise AssertionError(f"no end after {deadline_s:g} s:\n{log.read_text()}") from None
    assert code == 0, f"exit code {code}:\n{log.read_text()}"
    return log.read_text()


def run(*arguments: str, log: Path, deadline_s: float = 300.0, **more: str) -> str:
    """Start, wait, and return the output."""
    return finish(start(*arguments, log=log, **more), log, deadline_s)


def wait_for_text(log: Path, text: str, process: subprocess.Popen[bytes], deadline_s: float) -> None:
    """Wait until `text` stands in the output."""
    end = time.monotonic() + deadline_s
    while text not in log.read_text():
        assert process.poll() is None, f"ended before {text!r}:\n{log.read_text()}"
        assert time.monotonic() < end, f"waited {deadline_s:g} s for {text!r}:\n{log.read_text()}"
        time.sleep(0.1)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """What Ctrl-C in a terminal does: SIGINT to the whole foreground process group."""
    os.killpg(process.pid, signal.SIGINT)


def processes_below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Everything that a running command has started, directly or not: Ray's daemons, workers, engines."""
    return psutil.Process(process.pid).children(recursive=True)
