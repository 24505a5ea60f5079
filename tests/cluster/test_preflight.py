"""What is found wrong with stages before anything starts, and what may change at a resume."""

import pytest

from cluster.config import default_config, save_config
from cluster.preflight import check_before_start, check_same_run
from cluster.record.run_dir import RunDir
from protocol.errors import ConfigError

STAGES = ["stages.read.kind=rl", "stages.prefer.kind=dpo", "stages.act.kind=rl"]


def test_the_environment_of_every_stage_is_made():
    with pytest.raises(Exception, match="no/Such-v0"):
        check_before_start(default_config([*STAGES, "stages.act.env.id=no/Such-v0"]))


def test_what_evaluations_play_is_made_as_well():
    with pytest.raises(Exception, match="no/Such-v0"):
        check_before_start(default_config(["evaluation.env.id=no/Such-v0"]))


@pytest.mark.parametrize(
    "blind", ["env.prompt.text_only=true", "env.prompt.key_state=false", "env.id=docs.examples.dots:DotEnv"]
)
def test_reading_is_paid_only_where_something_is_read(blind):
    paid = "stages.read.rollout.reward={environment: 0, recognition: 1}"
    check_before_start(default_config([*STAGES, paid]))
    if "dots" in blind:
        check_before_start(default_config([*STAGES, paid, blind]))  # its answers state where the dot is
        return
    with pytest.raises(ConfigError, match=r"stages\.read\.rollout\.reward\.recognition is 1"):
        check_before_start(default_config([*STAGES, paid, blind]))
    check_before_start(default_config([*STAGES, blind]))


def test_sources_are_looked_up():
    with pytest.raises(ConfigError, match="no sampled rows in 'nowhere'"):
        check_before_start(default_config([*STAGES, "stages.prefer.samples.source=nowhere"]))


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ("stages.act.rollout.updates=40", False),
        ("stages.act.evaluation=null", False),
        ("rollout.updates=40", False),
        ("stages.prefer.beta=0.2", True),
        ("stages.act.env.prompt.memory=1", True),
        ("stages.read=null", True),
        ("stages.more.kind=rl", True),
        ("stages.act.learner.ppo.gamma=0.5", True),
        ("seed=1", True),
    ],
)
def test_what_may_change_at_a_resume(tmp_path, change, refused):
    run = RunDir.create(tmp_path, "run")
    save_config(default_config(STAGES), run.config)
    config = default_config([*STAGES, change])
    if not refused:
        check_same_run(config, run)
        return
    with pytest.raises(ConfigError, match="seed" if "seed" in change else "stages"):
        check_same_run(config, run)
