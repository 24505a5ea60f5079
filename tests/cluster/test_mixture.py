"""A mixture, whole: the documentation's example environment learns beside another one, and everything is told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.record.run_dir import RunDir
from cluster.record.trajectory_files import read_steps
from tests.cluster.running import run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(400)]

DOTS, LINES = ("dots", "docs.examples.dots:DotEnv"), ("lines", "gym_cards/NumberLine-v0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder: Path = tmp_path_factory.mktemp("mixture")
    run("train", "docs/examples/mixture.yaml", f"runs_dir={folder}", log=folder / "output.txt", deadline_s=360)
    return RunDir(folder / "mixture")


@pytest.fixture(scope="module")
def rows(trained: RunDir) -> list[dict[str, Any]]:
    return read_steps(trained.trajectories).to_pylist()


def metrics_of(trained: RunDir) -> list[dict[str, float]]:
    return [json.loads(line) for line in trained.metrics.read_text().splitlines()]


def test_the_example_environment_is_learnt(trained: RunDir) -> None:
    results = json.loads(trained.card.read_text())["results"]
    before, after = (results[f"{when}_greedy"]["per_task"]["dots"] for when in ("before", "after"))
    assert before["episodes"] == after["episodes"] > 40
    assert before["success_rate"] < 0.75, "demonstrated actions are random"
    assert after["success_rate"] > before["success_rate"] + 0.2


def test_every_row_says_where_it_comes_from(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 5 * 256
    assert {(row["task"], row["env_id"]) for row in rows} == {DOTS, LINES}
    dots = sum(row["task"] == "dots" for row in rows)
    assert 0.3 < dots / len(rows) < 0.9


def test_every_row_says_which_language_made_it(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        switches = json.loads(row["prompt_switches"])
        lines = row["task"] == "lines"
        assert (switches["memory"], switches["memory_frames"], switches["thoughts"]) == (lines, lines, not lines)
        assert len(row["frame_digests"]) == (2 if lines and row["step"] else 1)
        truth = json.loads(row["info"])["truth"]
        assert set(truth) == ({"current number", "target number"} if lines else {"dot"})


def test_every_component_has_its_own_metrics(trained: RunDir) -> None:
    for row in metrics_of(trained):
        for name in ("dots", "lines"):
            assert row[f"rollout/{name}/episodes"] > 0
            assert 0 <= row[f"rollout/{name}/success_rate"] <= 1
        assert row["rollout/recognition/dot"] > 0.8


def test_every_component_has_its_own_lambda(trained: RunDir) -> None:
    for row in metrics_of(trained):
        assert (row["learner/thought_weight/dots"], row["learner/thought_weight/lines"]) == pytest.approx((0.5, 0.2))


def test_what_is_sampled_is_what_is_scored(trained: RunDir) -> None:
    """Several pictures in one prompt included."""
    assert all(row["learner/ratio_first_minibatch_max_error"] < 1e-3 for row in metrics_of(trained))
