"""Two learners train what one trains: whole runs through the command line, with real Ray and real vLLM."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cluster.record.run_dir import RunDir
from cluster.record.trajectory_files import read_steps
from tests.cluster.running import LOCAL, run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(700)]

SMALL = (
    "evaluation=null",
    "rollout.steps_per_update=128",
    "workers.envs_per_worker=32",
    "checkpoints.every_updates=1",
    "checkpoints.keep=10",
)


def train(folder: Path, name: str, *overrides: str) -> RunDir:
    run(
        "train",
        LOCAL,
        f"runs_dir={folder}",
        f"name={name}",
        *SMALL,
        *overrides,
        log=folder / f"{name}.txt",
        deadline_s=280,
    )
    return RunDir(folder / name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, RunDir]:
    """One learner and two, from one model and one seed."""
    folder = tmp_path_factory.mktemp("learners")
    first = train(folder, "one", "sft.steps=40", "rollout.updates=1")
    model = f"model.path={first.model}"
    return first, train(folder, "two", model, "sft=null", "rollout.updates=2", "learner.count=2")


def adapter_of(finished: RunDir, update: int) -> dict[str, np.ndarray]:
    return load_file(finished.checkpoints / f"{update:06d}" / "adapter" / "adapter_model.safetensors")


def metrics_of(finished: RunDir) -> list[dict[str, float]]:
    return [json.loads(line) for line in finished.metrics.read_text().splitlines()]


def test_the_first_update_of_two_is_that_of_one(runs: tuple[RunDir, RunDir]) -> None:
    one, two = runs
    texts = [read_steps(r.trajectories).slice(0, 128).column("response_text").to_pylist() for r in runs]
    assert texts[0] == texts[1], "the two runs must have sampled the same rows"
    start, expected, found = adapter_of(one, 0), adapter_of(one, 1), adapter_of(two, 1)
    assert expected.keys() == found.keys()
    for name, weights in expected.items():
        way = np.linalg.norm(weights - start[name])
        assert way > 0
        assert np.linalg.norm(found[name] - weights) <= 0.02 * way, name


def test_every_row_is_trained_on_once_and_kept_once(runs: tuple[RunDir, RunDir]) -> None:
    two = runs[1]
    assert read_steps(two.trajectories).num_rows == 256
    for row in metrics_of(two):
        assert row["learner/rows"] == 128
        assert row["learner/ledger_trained"] == row["learner/ledger_received"]
        assert row["learner/ratio_first_minibatch_max_error"] < 1e-3
        assert row["publish/canary_max_abs_error"] < 1e-3


def test_one_learner_goes_on_with_what_two_have_begun(runs: tuple[RunDir, RunDir]) -> None:
    two = runs[1]
    overrides = ("rollout.updates=3", "learner.count=1", f"resume={two.root}")
    run("train", str(two.config), *overrides, log=two.root.parent / "resumed.txt", deadline_s=280)
    assert two.latest_checkpoint().name == "000003"
    assert metrics_of(two)[-1]["learner/ratio_first_minibatch_max_error"] < 1e-3
