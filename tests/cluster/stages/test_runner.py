"""Stages, whole: preferences and own successes raise success; a run goes on at the stage where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.record.run_dir import RunDir
from cluster.record.trajectory_files import read_steps
from tests.cluster.running import finish, interrupt, run, start, wait_for_text

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(700)]

DPO, REJECTION, SHORT = (f"cluster/configs/stages_{name}.yaml" for name in ("dpo", "rejection", "perception"))
SMALL = ["tracking.tensorboard=false", "checkpoints.every_updates=1"]
SHORTER = ["evaluation.episodes=100", *SMALL]


def card_of(run_dir: RunDir) -> dict[str, Any]:
    return json.loads(run_dir.card.read_text())


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def preferred(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, str]:
    """sft -> dpo -> rl, interrupted between sampling and preference optimisation, and resumed; its last output."""
    folder = tmp_path_factory.mktemp("dpo")
    log, run_dir = folder / "first.txt", RunDir(folder / "stages_dpo")
    overrides = [f"runs_dir={folder}", "stages.act.rollout.updates=1", "stages.prefer.samples.episodes=256", *SHORTER]
    process = start("train", DPO, *overrides, log=log)
    wait_for_text(log, "done sample episodes", process, deadline_s=300)
    interrupt(process)
    assert process.wait(90) == 130, log.read_text()
    assert not run_dir.stage(2, "prefer").model.exists()
    process = start("train", str(run_dir.config), f"resume={run_dir.root}", log=folder / "second.txt")
    return run_dir, finish(process, folder / "second.txt", 400)


def test_a_resumed_run_begins_with_what_was_not_finished(preferred: tuple[RunDir, str]) -> None:
    _, output = preferred
    assert "supervised fine-tuning" not in output and "sample episodes" not in output
    assert "done prefer: preference optimisation" in output and "done act: reinforcement learning" in output


def test_preferences_raise_success(preferred: tuple[RunDir, str]) -> None:
    results = card_of(preferred[0])["results"]
    before, after = results["prefer/before_sampled"], results["act/before_sampled"]
    assert before["panel_digest"] == after["panel_digest"]
    assert before["success_rate"] < 0.45
    assert after["success_ci95"][0] > before["success_ci95"][1] + 0.2, "learning, not luck"


def test_what_follows_stands_on_the_merged_model(preferred: tuple[RunDir, str]) -> None:
    run_dir, _ = preferred
    (row,) = rows_of(run_dir.stage(3, "act").metrics)
    assert (row["stage"], row["update"], row["run/policy_version"]) == ("act", 1, 1)
    assert row["learner/ratio_first_minibatch_max_error"] < 1e-3
    assert row["publish/canary_max_abs_error"] < 1e-3
    manifest = json.loads((run_dir.stage(3, "act").latest_checkpoint() / "adapter/adapter_config.json").read_text())
    assert manifest["base_model_name_or_path"] == str(run_dir.stage(2, "prefer").model)


def test_every_stage_leaves_its_numbers(preferred: tuple[RunDir, str]) -> None:
    run_dir, output = preferred
    stages = card_of(run_dir)["stages"]
    assert {name: own["kind"] for name, own in stages.items()} == {"format": "sft", "prefer": "dpo", "act": "rl"}
    assert stages["prefer"]["metrics"]["accuracy"] > 0.9
    assert stages["prefer"]["samples"]["rollout/episodes"] == 256
    prefer = run_dir.stage(2, "prefer")
    assert [row["update"] for row in rows_of(prefer.metrics)] == list(range(1, 101))
    rows = read_steps(prefer.trajectories)
    assert rows.num_rows == stages["prefer"]["samples"]["rollout/env_steps"]
    assert set(rows.column("policy_version").to_pylist()) == {0}
    assert output.strip().splitlines()[-2].startswith("success sampled:")


def test_own_successes_raise_success(tmp_path: Path) -> None:
    overrides = [f"runs_dir={tmp_path}", "stages.act=null", "stages.imitate.samples.episodes=256", *SHORTER]
    overrides.append("servers.kind=transformers")
    run("train", REJECTION, *overrides, log=tmp_path / "output.txt", deadline_s=500)
    card = card_of(RunDir(tmp_path / "stages_rejection"))
    before, after = (card["results"][f"imitate/{when}_sampled"] for when in ("before", "after"))
    assert before["success_rate"] < 0.45
    assert after["success_ci95"][0] > before["success_ci95"][1] + 0.2, "learning, not luck"
    metrics = card["stages"]["imitate"]["metrics"]
    assert metrics["successes"] == pytest.approx(256 * card["stages"]["imitate"]["samples"]["rollout/success_rate"])
    assert 0 < metrics["rows_kept"] <= metrics["rows_of_successes"] < metrics["rows_sampled"]


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, str]:
    """sft -> rl that pays for reading -> rl with the same adapter in another game -> rl with a fresh adapter."""
    folder = tmp_path_factory.mktemp("sequence")
    overrides = [
        f"runs_dir={folder}",
        "servers.kind=transformers",
        "evaluation=null",
        "rollout.steps_per_update=64",
        "stages.format.steps=30",
        "stages.read.rollout.updates=2",
        "stages.act.rollout.updates=1",
        "stages.act.rollout.reward={environment: 1.0, recognition: 0.0}",
        "stages.act.env.id=gym_cards/EZPoints-v0",
        "stages.last={kind: rl, adapter: fresh, rollout: {updates: 1}}",
    ]
    output = run("train", SHORT, *overrides, *SMALL, log=folder / "output.txt", deadline_s=400)
    return RunDir(folder / "stages_perception"), output


def test_what_is_paid_can_be_reading_while_success_stays_success(sequence: tuple[RunDir, str]) -> None:
    read = sequence[0].stage(2, "read")
    rows = read_steps(read.trajectories).to_pylist()
    infos = [json.loads(row["info"]) for row in rows]
    for row, info in zip(rows, infos, strict=True):
        fields = info["recognized"].values()
        assert row["reward"] == pytest.approx(sum(fields) / len(fields))
    assert {info["environment_reward"] for info in infos} <= {-1.0, 0.0, 1.0}
    assert -1.0 in {info["environment_reward"] for info in infos}
    earned: dict[str, float] = {}
    for row, info in zip(rows, infos, strict=True):
        earned[row["episode_id"]] = earned.get(row["episode_id"], 0.0) + info["environment_reward"]
        if "success" in info:
            assert info["success"] == (earned[row["episode_id"]] > 0), "told by the environment's rewards"
    assert all(row["learner/reward_mean"] >= 0 for row in rows_of(read.metrics))


def test_a_kept_adapter_goes_on_under_the_same_servers_in_another_game(sequence: tuple[RunDir, str]) -> None:
    run_dir, output = sequence
    read, act = run_dir.stage(2, "read"), run_dir.stage(3, "act")
    assert [row["run/policy_version"] for row in rows_of(read.metrics) + rows_of(act.metrics)] == [1, 2, 3]
    assert {row["env_id"] for row in read_steps(act.trajectories).to_pylist()} == {"gym_cards/EZPoints-v0"}
    assert "environment_reward" not in read_steps(act.trajectories).column("info")[0].as_py()
    names = [set(read_steps(home.trajectories).column("worker_id").to_pylist()) for home in (read, act)]
    assert names == [{"read-worker-0"}, {"act-worker-0"}]
    # Servers say what they are when they start: for the first RL stage, and for the merged model.
    assert output.count("x transformers") == 2


def test_a_fresh_adapter_begins_on_the_merged_model(sequence: tuple[RunDir, str]) -> None:
    run_dir, _ = sequence
    (row,) = rows_of(run_dir.stage(4, "last").metrics)
    assert row["run/policy_version"] == 1 and row["learner/ratio_first_minibatch_max_error"] < 1e-3
    assert run_dir.stage(3, "act").merged_model.is_dir()
    counters = json.loads((run_dir.stage(3, "act").latest_checkpoint() / "counters.json").read_text())
    assert counters["policy_version"] == 3
