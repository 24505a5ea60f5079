"""One real training run, shared by every test that looks at what a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.run_dir import RunDir
from tests.cluster.running import LOCAL, run

UPDATES = 12


@dataclass(frozen=True)
class FinishedRun:
    """A run of the shipped local recipe, with fewer updates and more checkpoints."""

    run: RunDir
    output: str


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The whole local recipe through the command line: real Ray, real vLLM, deterministic."""
    folder: Path = tmp_path_factory.mktemp("loop")
    output = run(
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
    return FinishedRun(RunDir(folder / "loop"), output)
