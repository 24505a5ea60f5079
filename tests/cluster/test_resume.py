"""Ctrl-C ends a run cleanly, and a resumed run arrives at the very bytes of an undisturbed one (invariant 8)."""

from __future__ import annotations

import json
import time

import psutil
import pytest

from cluster.record.run_dir import RunDir
from tests.cluster.conftest import FinishedRun
from tests.cluster.running import LOCAL, finish, interrupt, processes_below, run, start, wait_for_text

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of the same recipe, interrupted in the middle of its third rollout."""
    folder = tmp_path_factory.mktemp("resume")
    log = folder / "output.txt"
    process = start("train", LOCAL, f"runs_dir={folder}", "name=cut", "evaluation=null", "rollout.updates=50", log=log)
    try:
        wait_for_text(log, "  2/50", process, deadline_s=240)
        time.sleep(1.0)  # into the next rollout
        children = processes_below(process)
        assert len(children) > 3, "Ray's daemons, a server, a worker, the learner"
        interrupt(process)
        code = process.wait(90)
    finally:
        if process.poll() is None:
            process.kill()
    output = log.read_text()
    assert code == 130, output
    assert "Traceback" not in output
    assert f"resume={folder / 'cut'}" in output
    wait_until_gone(children)
    return RunDir(folder / "cut")


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == [], "left behind"


def test_an_interrupt_leaves_a_checkpoint_and_no_process(interrupted: RunDir) -> None:
    assert interrupted.latest_checkpoint().name in ("000002", "000003")
    assert not list(interrupted.checkpoints.glob(".*"))


def test_a_resumed_run_arrives_at_the_same_bytes(interrupted: RunDir, finished_run: FinishedRun) -> None:
    output = run(
        "train",
        str(interrupted.config),
        "rollout.updates=4",
        f"resume={interrupted.root}",
        log=interrupted.root.parent / "resumed.txt",
        deadline_s=240,
    )
    assert "supervised fine-tuning" not in output
    resumed = interrupted.checkpoints / "000004"
    undisturbed = finished_run.run.checkpoints / "000004"
    for name in ("adapter/adapter_model.safetensors", "value_head.safetensors", "optimizer.safetensors"):
        assert (resumed / name).read_bytes() == (undisturbed / name).read_bytes(), name
    rows = [json.loads(line)["update"] for line in interrupted.metrics.read_text().splitlines()]
    assert rows == [1, 2, 3, 4]


def test_resuming_under_another_seed_is_refused(interrupted: RunDir, tmp_path) -> None:
    process = start("train", str(interrupted.config), "seed=7", f"resume={interrupted.root}", log=tmp_path / "log")
    with pytest.raises(AssertionError, match="exit code 2"):
        finish(process, tmp_path / "log", 60)
    assert "seed" in (tmp_path / "log").read_text()
