"""Stages in a configuration: order, changes for one stage, and mistakes told with their place."""

import re
from pathlib import Path

import pytest

from cluster.config import RunConfig, default_config, load_config, save_config
from cluster.config.stages import DPOStage, RejectionStage, RLStage, SFTStage
from cluster.stages.runner import MODEL_STAGES
from protocol.errors import ConfigError

STAGES = """
env: {kwargs: {max_position: 4}, prompt: {memory: 1}}
rollout: {steps_per_update: 256}
workers: {count: 1}
stages:
  words: {kind: sft, steps: 7, env: {prompt: {text_only: true}}, demonstrations: {steps: 50}}
  own: {kind: rejection, steps: 5, samples: {episodes: 16, group_size: 4}, selection: {rows_per_state: 2}}
  prefer: {kind: dpo, beta: 0.3, pairs: {rule: recognition}, samples: {source: own}}
  read: {kind: rl, rollout: {updates: 3, reward: {environment: 0, recognition: 1}}, learner: {ppo: {gamma: 0.0}}}
  act: {kind: rl, env: {id: gym_cards/Blackjack-v0}, optimizer: fresh, evaluation: null}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(STAGES)
    return file


def test_stages_keep_their_order_and_kind(path):
    stages = load_config(path).stages
    assert list(stages) == ["words", "own", "prefer", "read", "act"]
    assert [type(s) for s in stages.values()] == [SFTStage, RejectionStage, DPOStage, RLStage, RLStage]


def test_a_stage_changes_its_own_settings_alone(path):
    config = load_config(path)
    words, read = config.of_stage("words"), config.of_stage("read")
    assert (words.env.prompt.text_only, words.env.prompt.memory) == (True, 1)
    assert words.env.kwargs == {"max_position": 4}
    assert not read.env.prompt.text_only
    assert (read.rollout.updates, read.rollout.steps_per_update) == (3, 256)
    assert (read.rollout.reward.environment, read.rollout.reward.recognition) == (0.0, 1.0)
    assert read.learner.ppo.gamma == 0.0 and words.learner.ppo.gamma == RunConfig().learner.ppo.gamma
    assert config.of_stage("act").evaluation is None and words.evaluation == RunConfig().evaluation
    assert (words.stages, words.sft) == ({}, None)


def test_another_id_takes_nothing_of_the_runs_environment_along(path):
    act = load_config(path).of_stage("act").env
    assert act.id == "gym_cards/Blackjack-v0"
    assert (act.kwargs, act.prompt.memory) == ({}, None)


def test_weights_of_a_mixture_change_from_stage_to_stage():
    mixture = "env.mixture={easy: {weight: 3, kwargs: {max_position: 2}}, hard: {thought_weight: 0.1}}"
    later = "stages.late={kind: rl, env: {mixture: {easy: {weight: 0}}}}"
    config = default_config([mixture, "stages.early.kind=rl", later])
    assert [config.of_stage(s).env.mixture["easy"].weight for s in ("early", "late")] == [3, 0]
    assert config.of_stage("late").env.mixture["easy"].kwargs == {"max_position": 2}
    assert config.of_stage("late").method.ppo.thought_weights == {"hard": 0.1}
    own = default_config(["env.prompt.memory=2", "stages.only={kind: rl, env: {mixture: {a: {}}}}"])
    assert list(own.of_stage("only").env.mixture) == ["a"]


def test_the_command_line_reaches_into_a_stage_and_leaves_it_out(path):
    config = load_config(path, ["stages.words.steps=9", "stages.read.rollout.updates=1", "stages.prefer=null"])
    assert config.stages["words"].steps == 9  # type: ignore[union-attr]
    assert config.of_stage("read").rollout.updates == 1
    assert list(config.stages) == ["words", "own", "read", "act"]


def test_what_is_saved_loads_equal(path, tmp_path):
    config = load_config(path)
    save_config(config, tmp_path / "saved.yaml")
    again = load_config(tmp_path / "saved.yaml")
    assert again == config and list(again.stages) == list(config.stages)
    stage = config.of_stage("read")
    save_config(stage, tmp_path / "stage.yaml")
    assert load_config(tmp_path / "stage.yaml") == stage


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("stages.words.stpes=1", "unknown key 'stages.words.stpes', did you mean 'stages.words.steps'?"),
        ("stages.prefer.pairs.margn=1", "did you mean 'stages.prefer.pairs.margin'?"),
        ("stages.prefer.beta=0", "stages.prefer.beta: Input should be greater than 0 (got 0)"),
        ("stages.own.samples.group_size=5", "stages.own.samples: episodes is 16, no multiple of group_size = 5"),
        ("stages.read.rollout.updtes=1", "stages.read: unknown key 'rollout.updtes', did you mean 'rollout.updates'?"),
        (
            "stages.read.rollout.reward.recognition=0",
            "stages.read: rollout.reward: environment and recognition are both 0",
        ),
        ("stages.words.env.prompt.memory=-1", "stages.words: env.prompt.memory"),
        ("stages.new.steps=1", "stages.new: its kind is missing; one of sft, rejection, dpo, rl"),
        ("stages.new.kind=ppo", "'sft', 'rejection', 'dpo', 'rl'"),
        ("stages.prefer.samples.source=act", "source is 'act', which keeps no sampled rows before this stage"),
        ("stages.prefer.samples.source=words", "source is 'words', which keeps no sampled rows"),
        ("stages.act.learner.lora.rank=4", "stages.act keeps the adapter of read but has another learner.lora"),
        ("stages.act.learner.gpus=1", "stages.act.learner.gpus: processes are placed for the whole run"),
        ("sft.steps=7", "sft has no effect beside stages"),
        ("stages.words.rows=runs/x", "stages.words: demonstrations have no effect beside rows"),
        ('stages={"a b": {kind: rl}}', "the name 'a b' holds more than letters"),
    ],
)
def test_a_mistake_is_told_with_its_place(path, override, told):
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    assert told in caught.value.message


@pytest.mark.parametrize("cure", ["stages.act.adapter=fresh", "stages.read.learner.lora.rank=4"])
def test_an_adapter_of_another_shape_begins_afresh(path, cure):
    assert load_config(path, ["stages.act.learner.lora.rank=4", cure]).of_stage("act").learner.lora.rank == 4


def test_moments_are_not_kept_for_another_algorithm(path):
    other = ["stages.act.optimizer=keep", "stages.act.learner.algorithm=vl_dac"]
    with pytest.raises(
        ConfigError, match=r"keeps the optimizer of read under another .*vl_dac, not ppo.*optimizer=fresh"
    ):
        load_config(path, other)
    load_config(path, [*other, "stages.act.optimizer=fresh"])


def test_every_kind_is_explained():
    page = (Path(__file__).parents[3] / "docs/stages.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)` \| ", page.split("## What a stage may change")[0], re.MULTILINE)
    assert told == ["kind", *MODEL_STAGES, "rl"]


def test_stages_of_one_run_begin_their_episodes_in_other_states():
    config = default_config(["learner.algorithm=grpo"])
    assert config.episode_seeds(3) == config.episode_seeds(3, 0) != config.episode_seeds(3, 1)
    drawn = config.group_seeds(12, 4, 0, 2)
    assert [drawn.count(seed) for seed in dict.fromkeys(drawn)] == [4, 4, 4]


def test_evaluations_may_play_other_games():
    config = default_config(["env.kwargs={max_position: 4, max_steps: 9}", "evaluation.env.kwargs.max_position=5"])
    assert config.evaluated_env.kwargs == {"max_position": 5, "max_steps": 9}
    assert config.env.kwargs == {"max_position": 4, "max_steps": 9}
    assert default_config(["evaluation=null"]).evaluated_env == config.env.model_copy(update={"kwargs": {}})
    elsewhere = default_config(["env.kwargs.max_position=4", "evaluation.env.id=gym_cards/Blackjack-v0"]).evaluated_env
    assert (elsewhere.id, elsewhere.kwargs) == ("gym_cards/Blackjack-v0", {})


def test_a_mistake_in_the_games_of_evaluations_is_told_with_its_place():
    with pytest.raises(ConfigError, match=r"evaluation\.env: .*unknown key 'promt', did you mean 'prompt'"):
        default_config(["evaluation.env.promt.memory=1"])


def test_pictures_remembered_in_evaluations_count_for_the_engine():
    shown = default_config(["evaluation.env.prompt={memory: 2, memory_frames: true}"])
    assert (shown.env.max_images_per_prompt, shown.engine.max_images_per_prompt) == (1, 3)
