"""The asynchronous run, whole: it learns, its rows are never too old, and it can be interrupted and resumed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.record.run_dir import RunDir
from cluster.record.trajectory_files import read_steps
from cluster.servers.idle import ENGINE_CAUSES
from tests.cluster.running import LOCAL, finish, interrupt, start, wait_for_text

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(700)]

UPDATES, ROWS = 10, 512


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, str]:
    """The local recipe with actors and learner at the same time, interrupted after three updates, then resumed."""
    folder = tmp_path_factory.mktemp("pipeline")
    overrides = [
        f"runs_dir={folder}",
        "name=pipeline",
        "deterministic=false",
        "learner.max_staleness=1",
        "workers.count=2",
        "workers.envs_per_worker=32",
        f"rollout.updates={UPDATES}",
        "evaluation.episodes=100",
        "checkpoints.every_updates=1",
        "tracking.tensorboard=false",
    ]
    log, run_dir = folder / "first.txt", RunDir(folder / "pipeline")
    process = start("train", LOCAL, *overrides, log=log)
    wait_for_text(log, f"   3/{UPDATES}", process, deadline_s=400)
    interrupt(process)
    assert process.wait(90) == 130, log.read_text()
    log = folder / "second.txt"
    process = start("train", str(run_dir.config), f"resume={run_dir.root}", log=log)
    return run_dir, finish(process, log, 500)


def metrics_of(run_dir: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run_dir.metrics.read_text().splitlines()]


def test_success_rises(finished: tuple[RunDir, str]) -> None:
    results = json.loads(finished[0].card.read_text())["results"]
    for mode in ("greedy", "sampled"):
        assert results[f"after_{mode}"]["success_ci95"][0] > results[f"before_{mode}"]["success_ci95"][1], mode
    assert results["after_greedy"]["policy_version"] == UPDATES


def test_no_row_is_older_than_allowed_and_none_is_wasted(finished: tuple[RunDir, str]) -> None:
    rows = metrics_of(finished[0])
    assert [row["update"] for row in rows] == list(range(1, UPDATES + 1))
    for row in rows:
        assert (row["learner/ledger_stale"], row["learner/ledger_invalid"], row["learner/rows"]) == (0, 0, ROWS)
        assert row["learner/staleness_max"] <= 1
        assert row["learner/staleness_0"] + row["learner/staleness_1"] == pytest.approx(1)
    assert max(row["learner/staleness_max"] for row in rows) == 1, "or nothing ran at the same time"
    last = rows[-1]
    fates = ("trained", "stale", "invalid", "duplicate", "waiting")
    assert last["learner/ledger_received"] == sum(last[f"learner/ledger_{fate}"] for fate in fates)
    assert last["learner/ledger_trained"] == last["learner/ledger_received"]


def test_rows_of_the_current_version_have_ratio_one_and_the_others_are_corrected(
    finished: tuple[RunDir, str],
) -> None:
    rows = metrics_of(finished[0])
    assert all(row.get("learner/ratio_first_minibatch_max_error", 0.0) < 1e-3 for row in rows)
    corrected = [row for row in rows if row["learner/staleness_max"] == 1]
    assert all(0.5 < row["learner/importance_weight_mean"] < 2 for row in corrected)
    assert any(row["learner/importance_weight_max"] > 1.01 for row in corrected)


def test_every_version_was_proven_before_its_successor(finished: tuple[RunDir, str]) -> None:
    proven = [
        row["publish/canary_max_abs_error"] for row in metrics_of(finished[0]) if "publish/canary_base_gap" in row
    ]
    assert len(proven) >= UPDATES - 2, "the first update of each part has no earlier publication to report"
    assert max(proven) < 1e-3


def test_no_row_was_trained_on_twice(finished: tuple[RunDir, str]) -> None:
    steps = read_steps(finished[0].trajectories)
    assert steps.num_rows == UPDATES * ROWS
    places = list(zip(steps.column("episode_id").to_pylist(), steps.column("step").to_pylist(), strict=True))
    assert len(set(places)) == len(places)
    names = set(steps.column("worker_id").to_pylist())
    assert {"worker-0", "worker-1"} < names, "resumed workers have names of their own"


def test_the_table_shows_who_waited(finished: tuple[RunDir, str]) -> None:
    (header,) = [line for line in finished[1].splitlines() if "success" in line and "idle" in line]
    assert header.split()[-4:] == ["idle", "e", "w", "l"]
    for row in metrics_of(finished[0])[1:]:
        assert all(0 <= (row[f"idle/{part}"] or 0) <= 1 for part in ("engines", "workers", "learner"))
        causes = [row[f"idle/engines/{cause}"] or 0 for cause in ENGINE_CAUSES]
        assert min(causes) >= 0 and sum(causes) == pytest.approx(row["idle/engines"] or 0)
