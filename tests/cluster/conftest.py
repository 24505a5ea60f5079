"""Shared by the tests of this folder: commands in this process, and one real training run to look at."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from cluster import cli
from cluster.record.run_dir import RunDir
from cluster.workers.actor import WorkerSpec
from tests.cluster.pools import scripted_session
from tests.cluster.running import LOCAL, run

UPDATES = 12


@dataclass(frozen=True)
class FinishedRun:
    """A run of the shipped local recipe, with fewer updates and more checkpoints."""

    run: RunDir
    output: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["croupier", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> FinishedRun:
    """The whole local recipe through the command line: real Ray, real vLLM, deterministic.

    Made once, also where several processes share the tests: the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    folder: Path = (base if worker_id == "master" else base.parent) / "loop"
    with FileLock(f"{folder}.lock", timeout=900):
        if not (folder / "done").is_file():
            folder.mkdir(exist_ok=True)
            _run_local_recipe(folder)
            (folder / "done").touch()
    return FinishedRun(RunDir(folder / "loop"), (folder / "output.txt").read_text())


def _run_local_recipe(folder: Path) -> None:
    run(
        "train",
        LOCAL,
        f"runs_dir={folder}",
        "name=loop",
        f"rollout.updates={UPDATES}",
        "checkpoints.every_updates=2",
        "checkpoints.keep=50",
        log=folder / "output.txt",
        deadline_s=600,
    )


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., WorkerSpec]]:
    """See `scripted_session`."""
    with scripted_session(tmp_path_factory.mktemp("workers")) as make:
        yield make
