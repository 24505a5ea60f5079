"""What `evaluate` and `play` can be given: a run, one of its checkpoints, or a model folder."""

from pathlib import Path

import pytest

from cluster.config import default_config, save_config
from cluster.config.env import EnvConfig
from cluster.record.run_dir import RunDir
from cluster.servers.served import find_policy
from protocol.errors import CheckpointError, ConfigError, ModelFolderError


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "model.safetensors"):
        (folder / name).write_text('{"model_type": "qwen2_5_vl"}')
    return folder


def write_run(root: Path, *overrides: str) -> RunDir:
    run = RunDir.create(root, "run")
    save_config(default_config(overrides), run.config)
    for update in (4, 8):
        run.write_checkpoint(update, {}, lambda folder: (folder / "package").mkdir(parents=True), keep=2)
    return run


def test_a_run_stands_for_its_newest_checkpoint(tmp_path):
    run = write_run(tmp_path, "env.kwargs.max_position=4")
    write_model(run.base_model)
    source = find_policy(run.root)
    assert source.package == run.checkpoints / "000008" / "package"
    assert source.model == run.base_model, "without a supervised stage the base model was trained"
    write_model(run.model)
    assert find_policy(str(run.root)).model == run.model
    assert source.config.env.kwargs == {"max_position": 4}


def test_a_checkpoint_stands_for_itself(tmp_path, monkeypatch):
    run = write_run(tmp_path, "seed=3")
    write_model(run.model)
    monkeypatch.chdir(run.checkpoints)
    for name in (run.checkpoints / "000004", "000004"):
        source = find_policy(name)
        assert source.package is not None
        assert source.package.absolute() == run.checkpoints / "000004" / "package"
        assert source.model == run.model and source.config.seed == 3


def test_a_model_folder_is_served_bare(tmp_path):
    source = find_policy(write_model(tmp_path / "model"), ["rollout.max_tokens=8"])
    assert source.package is None and source.model == tmp_path / "model"
    assert source.config == default_config(["rollout.max_tokens=8"])


def test_a_run_on_a_given_model(tmp_path):
    model = write_model(tmp_path / "model")
    run = write_run(tmp_path, f"model.path={model}", "sft=null")
    assert find_policy(run.root).model == model


def test_overrides_go_on_top_of_the_runs_configuration(tmp_path):
    run = write_run(tmp_path, "seed=3")
    write_model(run.model)
    config = find_policy(run.root, ["servers.kind=transformers"]).config
    assert (config.servers.kind, config.seed) == ("transformers", 3)
    with pytest.raises(ConfigError, match="servers.kind"):
        find_policy(run.root, ["servers.kin=transformers"])


def test_what_is_none_of_them_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no run directory or model folder .*nothing"):
        find_policy(tmp_path / "nothing")
    with pytest.raises(ModelFolderError, match="lacks config.json"):
        find_policy(tmp_path)
    run = RunDir.create(tmp_path, "young")
    save_config(default_config(), run.config)
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        find_policy(run.root)


def test_the_runs_environment_keeps_its_arguments(tmp_path):
    run = write_run(tmp_path, "env.kwargs.max_position=4")
    write_model(run.model)
    source = find_policy(run.root)
    assert source.env("") == source.env("gym_cards/NumberLine-v0") == source.config.env
    assert source.env("gym_cards/Blackjack-v0") == EnvConfig(id="gym_cards/Blackjack-v0")


def test_another_environment_is_played_under_the_prompts_that_the_policy_knows(tmp_path):
    run = write_run(tmp_path, "env.prompt.rules=false", "env.kwargs.max_position=4")
    write_model(run.model)
    other = find_policy(run.root).env("gym_cards/Blackjack-v0")
    assert (other.id, other.kwargs, other.prompt.rules) == ("gym_cards/Blackjack-v0", {}, False)


def test_overrides_reach_another_environment(tmp_path):
    run = write_run(tmp_path, "env.prompt.rules=false", "env.kwargs.max_position=4")
    write_model(run.model)
    overrides = ["env.kwargs.hands=held_out", "env.prompt.thoughts=false", "seed=7"]
    for path in (run.root, run.model):
        env = find_policy(path, overrides).env("gym_cards/Points24-v0", overrides)
        assert (env.id, env.kwargs) == ("gym_cards/Points24-v0", {"hands": "held_out"})
        assert (env.prompt.thoughts, env.prompt.rules) == (False, path == run.model)


def test_overrides_of_what_the_run_plays_do_not_choose_another_environment(tmp_path):
    for override in ("env.id=gym_cards/EZPoints-v0", "env.mixture.words.weight=3"):
        run = write_run(tmp_path / override)
        write_model(run.model)
        env = find_policy(run.root, [override]).env("gym_cards/Points24-v0", [override])
        assert (env.id, env.mixture) == ("gym_cards/Points24-v0", {})


def test_the_games_of_evaluations_are_the_runs_own(tmp_path):
    run = write_run(tmp_path, "env.kwargs.max_position=4", "evaluation.env.kwargs.max_position=5")
    write_model(run.model)
    source = find_policy(run.root)
    assert source.env("") == source.config.evaluated_env
    assert (source.env("").kwargs, source.config.env.kwargs) == ({"max_position": 5}, {"max_position": 4})


def test_a_component_of_a_runs_mixture_is_chosen_by_its_name_or_id(tmp_path):
    own = ["env.mixture.words.prompt.text_only=true", "env.mixture.words.kwargs.max_position=4"]
    run = write_run(tmp_path, *own, "env.mixture.dots.id=docs.examples.dots:DotEnv", "env.mixture.dots.weight=3")
    write_model(run.model)
    source = find_policy(run.root)
    assert source.env("") == source.config.env and source.env("").label == "words+dots"
    words = source.env("words")
    assert words == source.env("gym_cards/NumberLine-v0")
    assert (words.mixture, words.kwargs, words.prompt.text_only) == ({}, {"max_position": 4}, True)
    assert source.env("dots") == EnvConfig(id="docs.examples.dots:DotEnv")
    assert source.env("gym_cards/Blackjack-v0") == EnvConfig(id="gym_cards/Blackjack-v0")
