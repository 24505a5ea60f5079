"""The surroundings of an engine's child processes: their environment, their log, and their certain end."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

_start_lock = threading.Lock()
_ERROR_LINE = re.compile(r"[\w.]*(Error|Exception)\b")
_FATAL_SIGNS = ("fatal error", "failed to start", "WorkerProc")
_TAIL_LINES = 8


class EngineLog:
    """The file that vLLM's loggers write to, in this process and in the engine's.

    vLLM's own lines would flood a run's output, yet they are the only words of a process that dies.
    """

    def __init__(self, logger: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="croupier-engine-"))
        self.path = self._folder / "engine.log"
        self.config_path = self._folder / "logging.json"
        handler = {"class": "logging.FileHandler", "filename": str(self.path), "formatter": "plain"}
        config = {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"}},
            "handlers": {"file": handler},
            "loggers": {logger: {"handlers": ["file"], "level": "INFO", "propagate": False}},
        }
        self.config_path.write_text(json.dumps(config), encoding="utf-8")

    def cause(self) -> str:
        """The root error of the engine's death; empty when it had no time to log one.

        That is the first error behind the first fatal line: vLLM raises its way up through its processes afterwards,
        and what was logged before (a refused adapter, say) did not kill it.
        """
        lines = self._lines()
        fatal = next((n for n, line in enumerate(lines) if any(sign in line for sign in _FATAL_SIGNS)), len(lines))
        return next((line.strip() for line in lines[fatal:] if _ERROR_LINE.match(line.strip())), "")

    def tail(self) -> str:
        """The last lines, for people."""
        return "\n".join(self._lines()[-_TAIL_LINES:])

    def close(self) -> None:
        """Removes the file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _lines(self) -> list[str]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()]


@contextmanager
def child_environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Environment for processes started inside the block; restored afterwards. None removes a variable.

    One engine starts at a time in a process: the environment belongs to the whole process.
    """
    with _start_lock:
        saved = dict(os.environ)
        try:
            for name, value in variables.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            yield
        finally:
            # Not cleared and refilled: other threads read the environment meanwhile.
            for name in set(os.environ) - set(saved):
                del os.environ[name]
            for name, value in saved.items():
                if os.environ.get(name) != value:
                    os.environ[name] = value


class ChildWatch:
    """Tells an engine's processes from those that were there before it."""

    def __init__(self) -> None:
        self._before = {child.pid for child in multiprocessing.active_children()}
        self._seen: list[BaseProcess] = []

    def children(self) -> list[BaseProcess]:
        """Processes started directly since the watch began, dead ones included once they were seen."""
        for child in multiprocessing.active_children():
            if child.pid not in self._before and all(child is not seen for seen in self._seen):
                self._seen.append(child)
        return self._seen

    def process_ids(self) -> tuple[int, ...]:
        """Live processes of the engine, grandchildren included, ascending."""
        return tuple(sorted(process.pid for process in self._tree()))

    def exit_report(self) -> str:
        """How dead children ended, e.g. `EngineCore ended with code 1`."""
        reports = []
        for child in self.children():
            if child.exitcode is not None:
                hint = " (killed; often for lack of memory)" if child.exitcode == -signal.SIGKILL else ""
                reports.append(f"{child.name} ended with code {child.exitcode}{hint}")
        return ", ".join(reports)

    def kill(self, timeout_s: float) -> None:
        """Kills whatever is left and collects it."""
        tree = self._tree()
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        for child in self._seen:
            child.join(timeout_s)
        psutil.wait_procs(tree, timeout_s)

    def _tree(self) -> list[psutil.Process]:
        tree: dict[int, psutil.Process] = {}
        for child in self.children():
            try:
                root = psutil.Process(child.pid)
                for process in (root, *root.children(recursive=True)):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        tree[process.pid] = process
            except psutil.NoSuchProcess:
                continue
        return list(tree.values())
