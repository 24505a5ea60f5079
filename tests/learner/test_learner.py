import math
from dataclasses import replace

import pytest

from learner.config import LearnerConfig
from learner.learner import Learner
from protocol.errors import CheckpointError, ModelFolderError, RequestRefused, TrajectoryError, UpdateDiverged
from protocol.trajectory import NO_DIGEST
from tests.learner.test_adapter_export import canary
from tests.learner.test_checkpoint import learner_of, train_once
from tests.learner.world import config


def test_a_missing_model_folder_is_refused_at_once(tmp_path):
    with pytest.raises(ModelFolderError, match="no model folder"):
        Learner(tmp_path / "none", LearnerConfig(), (), 0)


def test_rows_are_admitted_only_under_a_published_digest(world):
    learner = learner_of(world)
    step = world.step(adapter_digest=NO_DIGEST)
    assert "published" in learner.receive([world.batch([step])])[0].reason
    digest = learner.package([]).manifest.digest
    assert learner.receive([world.batch([replace(step, adapter_digest=digest)])]) == []
    assert (learner.ledger.invalid, learner.ledger.waiting) == (1, 1)
    assert [r.trajectory_id for r in learner.rejections] == ["t"]


def test_an_update_raises_the_version_and_empties_the_inbox(either_world):
    learner = learner_of(either_world)
    metrics = train_once(learner, either_world)
    assert learner.policy_version == 1
    assert metrics["policy_version"] == 1
    assert (metrics["rows"], metrics["trajectories"]) == (7, 3)
    assert (metrics["ledger_received"], metrics["ledger_trained"], metrics["ledger_waiting"]) == (3, 3, 0)
    assert metrics["staleness_max"] == 0
    assert metrics["ratio_first_minibatch_max_error"] < 1e-4
    assert metrics["optimizer_steps"] == 4
    assert all(isinstance(v, float) and math.isfinite(v) for v in metrics.values())
    with pytest.raises(TrajectoryError, match="No trajectory waits for update 1"):
        learner.update()


def test_published_versions_have_canaries_that_tell_them_apart(world):
    learner = learner_of(world)
    fresh = learner.package([canary(world)])
    train_once(learner, world)
    trained = learner.package([canary(world)])
    assert (fresh.manifest.policy_version, trained.manifest.policy_version) == (0, 1)
    assert fresh.manifest.digest != trained.manifest.digest
    assert fresh.canaries[0].base_gap == 0
    assert trained.canaries[0].base_gap > 1e-4
    assert (trained.canaries[0].base_log_probs == fresh.canaries[0].base_log_probs).all()


def test_packaging_twice_is_harmless_and_malformed_canaries_publish_nothing(world):
    learner = learner_of(world)
    with pytest.raises(RequestRefused):
        learner.package([replace(canary(world), images=())])
    step = world.step(adapter_digest=NO_DIGEST)
    assert learner.receive([world.batch([step])])
    assert learner.package([]).manifest.digest == learner.package([]).manifest.digest


def test_stale_rows_train_within_the_bound_and_are_reported(world):
    settings = config().model_copy(update={"max_staleness": 1})
    learner = learner_of(world, settings)
    digest = learner.package([]).manifest.digest
    train_once(learner, world)
    train_once(learner, world)
    old = [replace(s, adapter_digest=digest, trajectory_id="old") for s in world.mixed_steps()[-1:]]
    learner.receive([world.batch(old)])
    assert learner.ledger.stale == 1
    one_behind = learner_of(world, settings)
    digest = one_behind.package([]).manifest.digest
    train_once(one_behind, world)
    one_behind.receive([world.batch([replace(s, adapter_digest=digest, trajectory_id="lag") for s in old])])
    metrics = one_behind.update()
    assert metrics["staleness_max"] == 1
    assert "ratio_first_minibatch_max_error" not in metrics


def test_a_diverged_update_keeps_version_and_ledger(world, monkeypatch):
    learner = learner_of(world)
    digest = learner.package([]).manifest.digest
    learner.receive([world.batch([world.step(adapter_digest=digest)])])

    def diverge(*_, **__):
        raise UpdateDiverged("not finite")

    monkeypatch.setattr(learner._loop, "update", diverge)
    with pytest.raises(UpdateDiverged):
        learner.update()
    assert learner.policy_version == 0
    assert learner.ledger.waiting == 1
    assert learner.ledger.balanced


def test_what_an_unfinished_update_has_left_is_neither_published_nor_saved_nor_trained(world, monkeypatch, tmp_path):
    learner = learner_of(world)
    digest = learner.package([]).manifest.digest
    learner.save(tmp_path / "whole")
    learner.receive([world.batch([world.step(adapter_digest=digest)])])
    accumulate, calls = learner._loop._accumulate, []

    def break_off(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise TrajectoryError("a picture that cannot be read")
        return accumulate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(learner._loop, "_accumulate", break_off)
        with pytest.raises(TrajectoryError, match="a picture"):
            learner.update()
    assert len(calls) == 2, "the first minibatch has moved the weights"
    for attempt in (learner.update, lambda: learner.package([]), lambda: learner.save(tmp_path / "torn")):
        with pytest.raises(CheckpointError, match="Update 0 broke off.*go on from the last checkpoint"):
            attempt()
    assert not (tmp_path / "torn").exists()
    learner.load(tmp_path / "whole")
    assert learner.package([]).manifest.digest == digest


def test_an_update_that_finds_no_usable_rows_leaves_the_learner_whole(world, monkeypatch):
    learner = learner_of(world)
    digest = learner.package([]).manifest.digest
    learner.receive([world.batch([world.step(adapter_digest=digest)])])

    def nothing(*_, **__):
        raise TrajectoryError("no whole episode")

    monkeypatch.setattr("learner.update.prepare", nothing)
    with pytest.raises(TrajectoryError, match="no whole episode"):
        learner.update()
    assert learner.package([]).manifest.digest == digest


def test_the_same_seed_gives_the_same_weights(world):
    digests = []
    for seed in (3, 3, 4):
        learner = learner_of(world, seed=seed)
        train_once(learner, world)
        digests.append(learner.package([]).manifest.digest)
    assert digests[0] == digests[1] != digests[2]
