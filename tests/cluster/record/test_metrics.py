"""Metrics: sums by hand, rows that stay valid JSON, and files that a resumed run continues."""

import json
import math
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event  # type: ignore[attr-defined]

from cluster.record.metrics import MetricsWriter, episode_metrics, rollout_metrics
from cluster.record.run_dir import RunDir
from tests.cluster.results import LOST, episode, report


def rows_of(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in run.metrics.read_text().splitlines()]


def write(run: RunDir, *updates: int, resume_at: int | None = None, loss: float = 0.5) -> None:
    writer = MetricsWriter(run, tensorboard=False, resume_at=resume_at)
    for update in updates:
        writer.write(update, {"loss": loss})
    writer.close()


def test_episode_metrics_by_hand():
    lost = episode(**LOST, invalid_steps=3, recognized_steps=4, recognition_steps=8)
    assert episode_metrics([episode(), episode(), lost]) == {
        "success_rate": pytest.approx(2 / 3),
        "mean_return": pytest.approx(-1 / 3),
        "mean_length": pytest.approx(14 / 3),
        "invalid_rate": pytest.approx(3 / 14),
        "truncation_rate": pytest.approx(1 / 3),
        "recognition_accuracy": pytest.approx(8 / 12),
    }


def test_episode_metrics_of_nothing_are_nan():
    values = episode_metrics([])
    assert len(values) == 6 and all(math.isnan(value) for value in values.values())
    without_probe = episode_metrics([episode(recognized_steps=0, recognition_steps=0)])
    assert math.isnan(without_probe["recognition_accuracy"]) and without_probe["success_rate"] == 1.0


def test_rollout_metrics_by_hand():
    small = report(env_steps=4, sampled_tokens=100, rss_bytes=200_000_000)
    values = rollout_metrics([report(episode(), episode(**LOST), rss_bytes=300_000_000), small], wall_s=4.0)
    expected = {
        "rollout/success_rate": 0.5,
        "rollout/mean_return": -1.0,
        "rollout/mean_length": 6.0,
        "rollout/invalid_rate": 4 / 20,  # over all steps, not over those of finished episodes
        "rollout/truncation_rate": 0.5,
        "rollout/recognition_accuracy": 1.0,
        "rollout/episodes": 2,
        "rollout/env_steps": 20,
        "rollout/env_errors": 2,
        "rollout/sampled_tokens": 300,
        "rollout/worker_rss_max_mb": 300.0,
        "speed/env_steps_per_s": 5.0,
        "speed/sampled_tokens_per_s": 75.0,
        "time/rollout_s": 4.0,
    }
    assert values == pytest.approx(expected)


def test_rollout_metrics_of_a_mixture_are_told_by_component_and_task():
    cards = episode(task="cards", recognition={"cards": (1, 2)})
    house = [episode(task="house/heat"), episode(task="house/cool", **LOST, invalid_steps=5)]
    values = rollout_metrics([report(cards, house[0]), report(house[1])], wall_s=1.0)
    told = {key: value for key, value in values.items() if key.startswith(("rollout/cards/", "rollout/house/"))}
    expected = {
        **{"cards/success_rate": 1.0, "cards/mean_return": 1.0, "cards/invalid_rate": 0.0, "cards/episodes": 1},
        **{"house/success_rate": 0.5, "house/mean_return": -1.0, "house/invalid_rate": 5 / 12, "house/episodes": 2},
        "house/heat/success_rate": 1.0,
        "house/heat/mean_return": 1.0,
        "house/heat/invalid_rate": 0.0,
        "house/heat/episodes": 1,
        "house/cool/success_rate": 0.0,
        "house/cool/mean_return": -3.0,
        "house/cool/invalid_rate": 0.5,
        "house/cool/episodes": 1,
    }
    assert told == pytest.approx({f"rollout/{key}": value for key, value in expected.items()})
    assert values["rollout/recognition/cards"] == 0.5
    assert values["rollout/success_rate"] == pytest.approx(2 / 3)


def test_a_task_without_a_name_is_not_told_twice():
    keys = rollout_metrics([report(episode())], wall_s=1.0)
    assert not [key for key in keys if key.count("/") > 1]


def test_rows_are_json_and_what_is_not_finite_is_null(tmp_path):
    run = RunDir(tmp_path)
    writer = MetricsWriter(run, tensorboard=False)
    writer.write(1, {"loss": 0.5, "empty": math.nan, "huge": math.inf})
    assert rows_of(run) == [{"update": 1, "loss": 0.5, "empty": None, "huge": None}], "readable before the end"
    writer.close()
    assert not run.tensorboard.exists()


def test_a_resumed_run_drops_the_rows_of_its_lost_continuation(tmp_path):
    run = RunDir(tmp_path)
    write(run, 1, 2, 3, 4)
    write(run, 3, resume_at=2, loss=0.25)
    assert [(row["update"], row["loss"]) for row in rows_of(run)] == [(1, 0.5), (2, 0.5), (3, 0.25)]


def test_a_torn_last_row_is_dropped(tmp_path):
    run = RunDir(tmp_path)
    write(run, 1, 2)
    for torn in ('{"update": 2, "lo', '{"update": 2}'):
        with run.metrics.open("a") as file:
            file.write(torn)
        write(run, resume_at=2)
        assert [row["update"] for row in rows_of(run)] == [1, 2]


def test_a_run_that_is_resumed_before_its_first_row(tmp_path):
    run = RunDir(tmp_path)
    write(run, 1, resume_at=0)
    assert [row["update"] for row in rows_of(run)] == [1]


def test_tensorboard_gets_every_finite_scalar(tmp_path):
    run = RunDir(tmp_path)
    writer = MetricsWriter(run, tensorboard=True)
    writer.write(1, {"rollout/success_rate": 0.25, "empty": math.nan})
    writer.write(2, {"rollout/success_rate": 0.75})
    writer.close()
    (file,) = run.tensorboard.iterdir()
    assert scalars_of(file.read_bytes()) == [("rollout/success_rate", 1, 0.25), ("rollout/success_rate", 2, 0.75)]


def scalars_of(data: bytes) -> list[tuple[str, int, float]]:
    """Tag, step and value of an event file: records of length (8 bytes), checksum (4), event, checksum (4)."""
    found = []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        data = data[16 + length :]
    return found
