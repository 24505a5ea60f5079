"""Every algorithm of the registry in the driver's own loop: one run whose stages go on with one adapter."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from cluster.record.run_dir import RunDir
from cluster.record.trajectory_files import read_steps
from learner.algorithms.config import CRITIC_ALGORITHMS, GROUP_ALGORITHMS, SINGLE_PASS_ALGORITHMS
from learner.algorithms.registry import ALGORITHMS
from tests.cluster.running import LOCAL, run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(700)]

STEPS, EPISODES, GROUP = 64, 16, 4


def stage_of(algorithm: str) -> str:
    ppo = "epochs: 1" if algorithm in SINGLE_PASS_ALGORITHMS else "epochs: 2"
    return f"{algorithm}: {{kind: rl, optimizer: fresh, learner: {{algorithm: {algorithm}, ppo: {{{ppo}}}}}}}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """sft, then one update by each algorithm, then imitation of what one of them had sampled."""
    folder = tmp_path_factory.mktemp("algorithms")
    stages = [
        "format: {kind: sft, steps: 40, learning_rate: 2.0e-3, demonstrations: {noise: 1.0}}",
        *(stage_of(algorithm) for algorithm in ALGORITHMS),
        "imitate: {kind: rejection, steps: 4, samples: {source: grpo}}",
    ]
    overrides = [
        f"runs_dir={folder}",
        "sft=null",
        f"stages={{{', '.join(stages)}}}",
        "servers.kind=transformers",
        "evaluation=null",
        "rollout.updates=1",
        f"rollout.steps_per_update={STEPS}",
        f"rollout.episodes_per_update={EPISODES}",
        f"rollout.group_size={GROUP}",
        "tracking.tensorboard=false",
        "checkpoints.every_updates=1",
    ]
    run("train", LOCAL, *overrides, log=folder / "output.txt", deadline_s=600)
    return RunDir(folder / "local")


def numbers_of(finished: RunDir, algorithm: str) -> dict[str, Any]:
    (row,) = [json.loads(line) for line in home_of(finished, algorithm).metrics.read_text().splitlines()]
    return row


def home_of(finished: RunDir, algorithm: str) -> RunDir:
    return finished.stage(2 + list(ALGORITHMS).index(algorithm), algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_update_is_made_and_published(finished: RunDir, algorithm: str) -> None:
    row = numbers_of(finished, algorithm)
    assert row["run/policy_version"] == 1 + list(ALGORITHMS).index(algorithm)
    assert row["learner/optimizer_steps"] >= 1 and math.isfinite(row["learner/policy_loss"])
    assert row["learner/ratio_first_minibatch_max_error"] < 1e-3
    assert row["learner/adapter_grad_norm"] > 0
    assert row["publish/canary_max_abs_error"] < 1e-3
    assert ("learner/value_loss" in row) == (algorithm in CRITIC_ALGORITHMS)


@pytest.mark.parametrize("algorithm", sorted(CRITIC_ALGORITHMS))
def test_with_a_critic_a_rollout_is_a_number_of_steps(finished: RunDir, algorithm: str) -> None:
    assert read_steps(home_of(finished, algorithm).trajectories).num_rows == STEPS


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS.keys() - CRITIC_ALGORITHMS))
def test_without_one_it_is_a_number_of_whole_episodes(finished: RunDir, algorithm: str) -> None:
    rows = read_steps(home_of(finished, algorithm).trajectories).to_pandas()
    assert rows["episode_id"].nunique() == EPISODES
    ends = rows.sort_values("step").groupby("episode_id").last()
    assert (ends["terminated"] | ends["truncated"]).all()
    together = rows.groupby("reset_seed")["episode_id"].nunique()
    expected = [GROUP] * (EPISODES // GROUP) if algorithm in GROUP_ALGORITHMS else [1] * EPISODES
    assert sorted(together) == expected


def test_rows_of_an_earlier_stage_are_learnt_from(finished: RunDir) -> None:
    metrics = json.loads(finished.card.read_text())["stages"]["imitate"]["metrics"]
    assert metrics["rows_sampled"] == read_steps(home_of(finished, "grpo").trajectories).num_rows
    assert 0 < metrics["rows_kept"] <= metrics["rows_sampled"]
