"""Processes of a sweep: so many at a time, each with a file for its output, all of them ended with the sweep."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

STOP_DEADLINE_S = 120.0
"""How long interrupted runs may take for their checkpoints and the end of their processes, in seconds."""

POLL_S = 0.2
"""Time between two looks at the processes, in seconds."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to run."""

    name: str
    words: Sequence[str]
    log: Path
    """Output and errors are appended here."""


def run_all(launches: Iterable[Launch], jobs: int, ended: Callable[[Launch, int], None]) -> None:
    """Run commands, at most `jobs` of them at a time.

    Ctrl-C reaches the processes as well: they are left to end by themselves before the interrupt goes on. SIGTERM,
    which is for this process alone (`ray job stop`), is passed on to them as an interrupt.

    Args:
        launches: Taken one by one, each when it is about to start.
        jobs: At least 1.
        ended: Called with every command that has ended, and its exit code.

    Raises:
        ValueError: This is not the main thread, which alone can be told of signals.
    """
    waiting, running = iter(launches), dict[Launch, subprocess.Popen[bytes]]()
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        while True:
            while len(running) < jobs and (launch := next(waiting, None)) is not None:
                running[launch] = _start(launch)
            if not running:
                return
            time.sleep(POLL_S)
            for launch in [launch for launch, process in running.items() if process.poll() is not None]:
                ended(launch, running.pop(launch).returncode)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            for process in running.values():
                process.send_signal(signal.SIGINT)
        _await_end(list(running.values()))
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _start(launch: Launch) -> subprocess.Popen[bytes]:
    with launch.log.open("ab") as output:
        return subprocess.Popen(launch.words, stdout=output, stderr=subprocess.STDOUT)


def _await_end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until interrupted processes have kept what they have; whoever takes too long is killed."""
    deadline = time.monotonic() + STOP_DEADLINE_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
