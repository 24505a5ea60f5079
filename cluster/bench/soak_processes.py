"""The processes of a run by what they do, and what each takes of memory and files; told by process table alone.

Ray's processes are children of the one that started it, and bear the names of their actors' classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.workers.memory import unshared_bytes

DRIVER, LEARNER, WORKER, SERVER, ENGINE = "driver", "learner", "rollout worker", "inference server", "engine"
RAYLET, GCS, OTHERS = "raylet", "GCS", "Ray's other processes"

TITLES = {
    "ray::LearnerActor": LEARNER,
    "ray::WorkerActor": WORKER,
    "ray::ServerActor": SERVER,
    "VLLM::": ENGINE,
}
"""How the title of a process begins, and its role."""
PROGRAMS = {"raylet": RAYLET, "gcs_server": GCS}
NUMBERED = (WORKER, SERVER)
"""Roles of which there may be several; an engine bears the number of its server."""

_ADAPTERS = "croupier-adapters-"
"""How the folder begins that servers keep adapters in; it may be shared with those of other runs."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One line of the process table."""

    pid: int
    parent: int
    began_s: float
    title: str
    """First word of its command line."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process takes."""

    own_bytes: int
    """Resident and backed by no file and no shared memory, as in `cluster.workers.memory`."""
    proportional_bytes: int
    """Resident, a page that n processes share counted as 1/n (PSS)."""
    open_files: int


class Roles:
    """Tells the roles of a run's processes; a process that takes a dead one's place takes its number as well.

    Args:
        root: Process id of the driver.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._numbers: dict[str, dict[int, int]] = {kind: {} for kind in NUMBERED}

    def attribute(self, table: Sequence[ProcessRow]) -> dict[int, str]:
        """Role of every process in the table, by process id: such as "driver", "rollout worker 2", "engine 1".

        A process of no known kind has the role of the one that started it, if that is an actor's or an engine's.
        """
        rows = {row.pid: row for row in table}
        kinds = {pid: self._kind(pid, rows) for pid in rows}
        for kind, numbers in self._numbers.items():
            members = [row for row in table if kinds[row.pid] == (kind, row.pid)]
            _renumber(numbers, sorted(members, key=lambda row: (row.began_s, row.pid)))
        return {pid: self._name(kind, owner, rows) for pid, (kind, owner) in kinds.items()}

    def _kind(self, pid: int, rows: Mapping[int, ProcessRow]) -> tuple[str, int]:
        """The kind of a process, and the process that it has it from: itself, or one above."""
        if pid == self._root:
            return DRIVER, pid
        for above in _line_above(pid, rows):
            if above == self._root:
                break
            if kind := kind_of(rows[above].title):
                return (kind, above) if above == pid or kind not in PROGRAMS.values() else (OTHERS, pid)
        return OTHERS, pid

    def _name(self, kind: str, owner: int, rows: Mapping[int, ProcessRow]) -> str:
        if kind in self._numbers:
            return f"{kind} {self._numbers[kind][owner]}"
        if kind == ENGINE:
            servers = self._numbers[SERVER]
            number = next((servers[pid] for pid in _line_above(owner, rows) if pid in servers), None)
            return ENGINE if number is None else f"{ENGINE} {number}"
        return kind


def kind_of(title: str) -> str | None:
    """The kind of process that a title stands for, if any."""
    for beginning, kind in TITLES.items():
        if title.startswith(beginning):
            return kind
    return PROGRAMS.get(Path(title).name)


def read_table(root: psutil.Process) -> tuple[list[ProcessRow], dict[int, psutil.Process]]:
    """The process table of `root` and everything below it, and handles by process id."""
    rows, handles = [], {}
    for process in [root, *root.children(recursive=True)]:
        try:
            title = (process.cmdline() or [""])[0]
            rows.append(ProcessRow(process.pid, process.ppid(), process.create_time(), title))
            handles[process.pid] = process
        except psutil.NoSuchProcess:  # it ended just now
            continue
    return rows, handles


def usage_of(process: psutil.Process) -> Usage | None:
    """What a process takes; None if it has ended."""
    try:
        memory = process.memory_full_info()
        return Usage(unshared_bytes(memory), memory.pss, process.num_fds())
    except psutil.NoSuchProcess:
        return None


def adapter_bytes(servers: Iterable[psutil.Process]) -> int:
    """Size of the adapters' files in memory (tmpfs) that these servers hold, files that several hold once."""
    folders = {folder for server in servers for folder in _adapter_folders(server)}
    files = {file for folder in folders for file in folder.rglob("*")}
    return sum(map(_size, files))


def _adapter_folders(server: psutil.Process) -> list[Path]:
    """A server keeps a file open, its lock, in every folder that it holds."""
    try:
        folders = [Path(file.path).parent for file in server.open_files()]
    except psutil.NoSuchProcess:
        return []
    return [folder for folder in folders if any(part.startswith(_ADAPTERS) for part in folder.parts)]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # retired just now
        return 0


def _line_above(pid: int, rows: Mapping[int, ProcessRow]) -> list[int]:
    """The process itself, its parent, and so on up to the highest one in the table."""
    line: list[int] = []
    while pid in rows and pid not in line:
        line.append(pid)
        pid = rows[pid].parent
    return line


def _renumber(numbers: dict[int, int], members: Sequence[ProcessRow]) -> None:
    """Forget who is gone; whoever is new takes the lowest number that is free."""
    for pid in set(numbers) - {row.pid for row in members}:
        del numbers[pid]
    for row in members:
        if row.pid not in numbers:
            free = set(range(1, len(numbers) + 2)) - set(numbers.values())
            numbers[row.pid] = min(free)
