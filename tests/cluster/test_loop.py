"""The loop, whole: `croupier train` on the shipped local recipe learns, and leaves behind what it promises."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from peft import PeftModel
from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]
from transformers import AutoModelForImageTextToText

from cluster.record.trajectory_files import read_frames, read_steps
from protocol.schema import STEP_SCHEMA, VERSION_KEY
from tests.cluster.conftest import UPDATES, FinishedRun
from tests.cluster.running import run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(700)]


def metrics_of(finished: FinishedRun) -> list[dict[str, float]]:
    return [json.loads(line) for line in finished.run.metrics.read_text().splitlines()]


def results_of(finished: FinishedRun) -> dict[str, dict]:
    return json.loads(finished.run.card.read_text())["results"]


def test_reinforcement_learning_raises_success(finished_run: FinishedRun) -> None:
    results = results_of(finished_run)
    assert all(r["episodes"] == 200 for r in results.values())
    # The intervals do not touch: this is learning, not luck.
    for mode in ("greedy", "sampled"):
        assert results[f"after_{mode}"]["success_ci95"][0] > results[f"before_{mode}"]["success_ci95"][1], mode
    assert 0.3 <= results["before_greedy"]["success_rate"] <= 0.7
    assert results["after_greedy"]["success_rate"] >= 0.95
    assert results["after_sampled"]["success_rate"] >= 0.7


def test_both_evaluations_played_the_same_panel(finished_run: FinishedRun) -> None:
    results = results_of(finished_run)
    assert len({r["panel_digest"] for r in results.values()}) == 1
    assert results["before_greedy"]["policy_version"] == 0
    assert results["after_greedy"]["policy_version"] == UPDATES


def test_the_last_lines_say_what_was_reached_and_where(finished_run: FinishedRun) -> None:
    last = finished_run.output.strip().splitlines()[-3:]
    assert last[0].startswith("success greedy:") and last[1].startswith("success sampled:")
    assert last[2] == f"Run directory: {finished_run.run.root}"


def test_the_importance_ratio_is_one_before_the_first_step_of_every_update(finished_run: FinishedRun) -> None:
    for row in metrics_of(finished_run):
        assert row["learner/ratio_first_minibatch_max_error"] < 1e-3, row["update"]
        assert row["learner/behavior_log_prob_gap_max"] < 1e-3, row["update"]


def test_every_publish_was_proven_by_canaries(finished_run: FinishedRun) -> None:
    rows = metrics_of(finished_run)
    assert all(row["publish/canary_max_abs_error"] < 1e-3 for row in rows)
    # The adapter moves away from the base, and the servers see it.
    assert rows[-1]["publish/canary_base_gap"] > 10 * rows[-1]["publish/canary_max_abs_error"]


def test_every_trajectory_is_accounted_for(finished_run: FinishedRun) -> None:
    last = metrics_of(finished_run)[-1]
    fates = ("trained", "stale", "invalid", "duplicate", "waiting")
    assert last["learner/ledger_received"] == sum(last[f"learner/ledger_{fate}"] for fate in fates)
    assert last["learner/ledger_trained"] == last["learner/ledger_received"] > 0
    assert last["learner/staleness_max"] == 0


def test_trajectories_are_parquet_in_the_schema_of_the_wire(finished_run: FinishedRun) -> None:
    folder = finished_run.run.trajectories
    steps = read_steps(folder)
    assert steps.num_rows == UPDATES * 512
    assert steps.schema.equals(STEP_SCHEMA)
    first = pq.read_schema(folder / "steps-000001.parquet")
    assert first.metadata[VERSION_KEY] == STEP_SCHEMA.metadata[VERSION_KEY]
    assert sorted(set(steps.column("policy_version").to_pylist())) == list(range(UPDATES))
    named = {d for row in steps.column("frame_digests").to_pylist() for d in row}
    assert named <= read_frames(folder).keys()
    assert steps.to_pandas()["response_text"].str.contains('"action":').mean() > 0.9


def test_the_adapter_of_a_checkpoint_opens_in_peft(finished_run: FinishedRun) -> None:
    checkpoint = finished_run.run.latest_checkpoint()
    assert checkpoint.name == f"{UPDATES:06d}"
    base = AutoModelForImageTextToText.from_pretrained(finished_run.run.model)
    model = PeftModel.from_pretrained(base, checkpoint / "adapter")
    trained = [p for name, p in model.named_parameters() if "lora_B" in name]
    assert trained and any(p.abs().max() > 0 for p in trained)
    assert not list(finished_run.run.root.rglob("*.pkl")) + list(finished_run.run.root.rglob("*.pt"))


def test_tensorboard_has_an_event_per_update(finished_run: FinishedRun) -> None:
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 - the format's own package is at hand

    (file,) = finished_run.run.tensorboard.glob("events.out.tfevents.*")
    steps = set()
    data, at = file.read_bytes(), 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + length])
        if any(v.tag == "rollout/success_rate" for v in event.summary.value):
            steps.add(event.step)
        at += 12 + length + 4
    assert steps == set(range(1, UPDATES + 1))


def test_evaluating_the_finished_run_gives_the_result_on_its_card(finished_run: FinishedRun, tmp_path) -> None:
    file = tmp_path / "result.json"
    run("evaluate", str(finished_run.run.root), "--json", str(file), log=tmp_path / "output.txt", deadline_s=200)
    again, before = json.loads(file.read_text()), results_of(finished_run)["after_greedy"]
    assert again["panel_digest"] == before["panel_digest"]
    assert again["policy_version"] == UPDATES
    # Greedy play does not depend on chance; two engines may round a near tie differently.
    assert abs(again["success_rate"] - before["success_rate"]) <= 0.01
    assert again["recognition_accuracy"] > 0.9
