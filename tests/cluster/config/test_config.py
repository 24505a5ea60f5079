"""Configurations: what is shipped loads, mistakes are named with their cure, the resolved form reads back equal."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.config import RunConfig, default_config, load_config, save_config, shipped_configs
from learner.config import LearnerConfig
from protocol.errors import ConfigError

ROOT = Path(__file__).parents[3]
ALTERNATING = ("servers.sleep_while_learning=true", "learner.gpus=0.5", "servers.gpus=0.5")


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def test_there_are_shipped_configurations():
    assert ROOT / "cluster/configs/local.yaml" in shipped_configs()


@pytest.mark.parametrize("path", shipped_configs(), ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path):
    assert load_config(path).name == path.stem


def test_reading_a_configuration_loads_nothing_heavy():
    code = (
        "import sys; from cluster.config import load_config; load_config('cluster/configs/local.yaml');"
        "print(sorted({'torch', 'transformers', 'vllm', 'ray'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("rolout.updates", "rollout"),
        ("rollout.update", "rollout.updates"),
        ("sft.stpes", "sft.steps"),
        ("sft.demonstrations.noize", "sft.demonstrations.noise"),
        ("evaluation.episode", "evaluation.episodes"),
        ("learner.gpu", "learner.gpus"),
        ("learner.ppo.gama", "learner.ppo.gamma"),
        ("learner.lora.rnak", "learner.lora.rank"),
        ("servers.max_lora_rnk", "servers.max_lora_rank"),
        ("model.tiny.hidden_sise", "model.tiny.hidden_size"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(key, nearest):
    with pytest.raises(ConfigError) as caught:
        default_config([f"{key}=1"])
    unknown = key.split(".")[0] if key.startswith("rolout") else key
    assert f"unknown key {unknown!r}, did you mean {nearest!r}?" in str(caught.value)


def test_a_key_like_no_other_lists_what_is_known_there():
    with pytest.raises(ConfigError, match="unknown key 'checkpoints.zzz'; known here: every_updates, keep"):
        default_config(["checkpoints.zzz=1"])


def test_every_mistake_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        default_config(["seed=-1", "workers.cuont=3", "sft.steps=0"])
    for part in ("seed: ", "'workers.cuont'", "sft.steps: "):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=-1", ("seed", "-1", "0")),
        ("rollout.temperature=0", ("rollout.temperature", "0", "greater than 0")),
        ("rollout.temperature=.inf", ("rollout.temperature", "inf", "finite")),
        ("rollout.updates=2.5", ("rollout.updates", "2.5", "integer")),
        ("sft.demonstrations.noise=1.5", ("sft.demonstrations.noise", "1.5", "less than or equal to 1")),
        ("learner.ppo.clip=3", ("learner.ppo.clip", "3", "less than 1")),
        ("learner.ppo.value_hidden_sizes=[8,0]", ("learner.ppo.value_hidden_sizes.1", "0", "equal to 1")),
        ("servers.gpus=2", ("servers.gpus", "2", "less than or equal to 1")),
        ("servers.kind=onnx", ("servers.kind", "onnx", "'vllm' or 'transformers'")),
        ("evaluation.episodes=2000000", ("evaluation.episodes", "2000000", "1000000")),
        ("name=a/b", ("name", "a/b", "pattern")),
        ("rollout=5", ("rollout", "5", "RolloutConfig")),
        ("rollout.updates=", ("rollout.updates", "None", "integer")),
    ],
)
def test_a_value_out_of_bounds_is_named_with_its_limit(override, told):
    with pytest.raises(ConfigError) as caught:
        default_config([override])
    for part in told:
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("overrides", "keys", "cure"),
    [
        (
            ["rollout.steps_per_update=63"],
            ("rollout.steps_per_update is 63", "64 environments", "workers.envs_per_worker"),
            "rollout.steps_per_update=64",
        ),
        (
            ["rollout.max_tokens=512", "servers.max_model_len=512"],
            ("rollout.max_tokens is 512", "servers.max_model_len = 512"),
            "servers.max_model_len=1024",
        ),
        (["learner.lora.rank=17"], ("learner.lora.rank is 17", "servers.max_lora_rank is 16"), "learner.lora.rank=16"),
        (["learner.gpus=1.5"], ("learner.gpus is 1.5", "whole"), "learner.gpus=2"),
        (["learner.count=2", "learner.gpus=0.5"], ("learner.count is 2", "learner.gpus = 0.5"), "learner.gpus=1"),
        (
            ["learner.compute.sharding=fsdp"],
            ("learner.compute.sharding is fsdp", "learner.count = 1"),
            "learner.count=2",
        ),
        (
            ["servers.tensor_parallel=2", "servers.gpus=0.5"],
            ("servers.tensor_parallel is 2", "servers.gpus = 0.5"),
            "servers.gpus=1",
        ),
        (
            ["servers.sleep_while_learning=true"],
            ("servers.gpus = 0", "engines on CPU keep their memory", "learner.gpus=0.5 servers.gpus=0.5"),
            "servers.sleep_while_learning=false",
        ),
        (
            [*ALTERNATING, "servers.device=cpu"],
            ("servers.device = cpu", "engines on CPU keep their memory"),
            "servers.sleep_while_learning=false",
        ),
        (
            [*ALTERNATING, "learner.gpus=0"],
            ("learner.gpus = 0", "a learner on CPU needs no GPU memory"),
            "learner.gpus=0.5",
        ),
        (
            [*ALTERNATING, "learner.compute.device=cpu"],
            ("learner.compute.device = cpu", "a learner on CPU"),
            "learner.compute.device=cuda",
        ),
        ([*ALTERNATING, "servers.gpus=0.6"], ("learner.gpus = 0.5", "servers.gpus = 0.6"), "servers.gpus=0.5"),
        ([*ALTERNATING, "servers.count=2"], ("2 server(s) of servers.gpus = 0.5", "several GPUs"), "servers.count=1"),
        (
            [*ALTERNATING, "learner.count=2", "learner.gpus=1"],
            ("learner.count = 2", "several GPUs"),
            "servers.sleep_while_learning=false",
        ),
        (
            [*ALTERNATING, "learner.max_staleness=1"],
            ("learner.max_staleness = 1", "lock-step"),
            "learner.max_staleness=0",
        ),
        (
            [*ALTERNATING, "learner.compute.quantization=nf4", "learner.compute.precision=bfloat16"],
            ("learner.compute.quantization = nf4", "4-bit weights cannot be moved"),
            "learner.compute.quantization=none",
        ),
        (["deterministic=true"], ("one worker and one server, not 2 and 1",), "workers.count=1"),
        (
            ["deterministic=true", "workers.count=1", "learner.gpus=1"],
            ("deterministic needs CPU", "learner.gpus = 1"),
            "learner.gpus=0",
        ),
        (["servers.deterministic=true", "workers.count=1"], ("set deterministic=true",), "deterministic=true"),
        (["servers.vision_adapters=true"], ("set learner.lora.targets=all",), "learner.lora.targets=all"),
        (["servers.seed=5"], ("servers.seed is 5", "set seed=5"), "seed=5"),
        (["learner.ppo.max_ratio=1.05"], ("learner.ppo: max_ratio 1.05", "1 + clip"), "learner.ppo.max_ratio=2"),
        (
            ["servers.tensor_parallel=2", "servers.device=cpu"],
            ("servers: tensor_parallel is 2",),
            "servers.device=auto",
        ),
        (["model.tiny.heads=3"], ("model.tiny: hidden_size / heads is 64 / 3",), "model.tiny.heads=2"),
    ],
)
def test_contradictions_name_both_keys_and_their_cure_works(overrides, keys, cure):
    with pytest.raises(ConfigError) as caught:
        default_config(overrides)
    for part in keys:
        assert part in caught.value.message
    more = ["servers.gpus=1"] if "servers.device=auto" in cure else []
    default_config([*overrides, cure, *more])


def test_a_stage_cannot_leave_lock_step_where_engines_and_learner_alternate():
    assert default_config(list(ALTERNATING)).engine.sleep_while_learning
    with pytest.raises(ConfigError, match=r"stages.late: .*learner.max_staleness = 1.*lock-step"):
        default_config([*ALTERNATING, "stages.late.kind=rl", "stages.late.learner.max_staleness=1"])


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = write(tmp_path, "rollout:\n  updates: 3\n  steps_per_update: 128\nsft: null\n")
    config = load_config(path, ["rollout.updates=5", "learner.ppo.gamma=0.5"])
    assert config.rollout.updates == 5
    assert config.rollout.steps_per_update == 128
    assert config.rollout.max_tokens == RunConfig().rollout.max_tokens
    assert config.learner.ppo.gamma == 0.5
    assert config.sft is None


def test_null_switches_a_part_off_and_a_key_inside_switches_it_on(tmp_path):
    assert default_config(["sft=null", "evaluation=null"]).sft is None
    path = write(tmp_path, "sft: null\n")
    part = load_config(path, ["sft.steps=7"]).sft
    assert part is not None and part.steps == 7


@pytest.mark.parametrize("override", ["rollout.updates", "=5", "--seed"])
def test_an_override_without_key_and_value_is_named(override):
    with pytest.raises(ConfigError, match=f"{override!r} is not of the form key=value"):
        default_config([override])


@pytest.mark.parametrize("override", ["env.kwargs.x={", "seed=${nowhere}"])
def test_an_unreadable_override_is_named(override):
    with pytest.raises(ConfigError) as caught:
        default_config([override])
    assert override in str(caught.value)


def test_values_keep_their_types():
    config = default_config(["env.kwargs.a=[1, 2]", "env.kwargs.b=x=y", "name=2024", "learner.ppo.learning_rate=1e-4"])
    assert config.env.kwargs == {"a": [1, 2], "b": "x=y"}
    assert (config.name, config.learner.ppo.learning_rate) == ("2024", 1e-4)


@pytest.mark.parametrize(
    "text",
    ["a: [1", "- a\n- b\n", "5", "seed: 1\nseed: 2\n", "a: !!python/object:os.system x", "rollout: null\n", "1: 2\n"],
)
def test_a_malformed_file_is_named(tmp_path, text):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_binary_is_no_configuration(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not readable YAML"):
        load_config(tmp_path / "run.yaml")


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load_config(write(tmp_path, "")) == RunConfig()


@pytest.mark.parametrize(
    ("path", "hint"),
    [("cluster/configs/locl.yaml", "did you mean cluster/configs/local.yaml"), ("zzz", "shipped: cluster/configs/")],
)
def test_a_missing_file_is_answered_with_a_suggestion(path, hint):
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert repr(path) in caught.value.message and hint in caught.value.cure


@pytest.mark.parametrize("path", shipped_configs(), ids=lambda path: path.name)
def test_what_is_saved_loads_equal(tmp_path, path):
    place, _ = next(iter(load_config(path).env.components.items()))
    overrides = [f"{place}.kwargs.words=[yes, '1', 1.5, null]", "learner.ppo.value_hidden_sizes=[8, 9]", "seed=3"]
    config = load_config(path, overrides)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_the_engine_follows_the_run():
    config = default_config(["deterministic=true", "workers.count=1", "seed=9"])
    assert (config.engine.deterministic, config.engine.seed) == (True, 9)
    assert config.engine.model_copy(update={"deterministic": False, "seed": 0}) == config.servers
    assert default_config(["learner.lora.targets=all"]).engine.vision_adapters
    assert [
        default_config([f"learner.max_staleness={n}", "deterministic=false"]).engine.adapter_slots for n in (0, 1, 2)
    ] == [3, 3, 4]
    assert default_config(["servers.adapter_slots=7"]).engine.adapter_slots == 7


def test_the_lambda_of_a_mixture_component_reaches_the_learner():
    overrides = ["env.mixture.a.thought_weight=0.25", "env.mixture.b.weight=2", "learner.ppo.thought_weights.c=0.75"]
    config = default_config([*overrides, "learner.ppo.thought_weight=0.4", "learner.gpus=0.5"])
    assert config.method.ppo.thought_weights == {"a": 0.25, "c": 0.75}
    assert config.method.ppo.thought_weight == 0.4
    assert type(config.method) is LearnerConfig


def test_one_lambda_is_not_set_in_two_places():
    with pytest.raises(ConfigError, match=r"thought_weights\.a and env\.mixture\.a\.thought_weight .*leave one out"):
        default_config(["env.mixture.a.thought_weight=0.25", "learner.ppo.thought_weights.a=0.25"])


def test_groups_begin_in_one_state_and_fill_the_update():
    config = default_config(["learner.algorithm=grpo", "rollout.episodes_per_update=12", "rollout.group_size=4"])
    seeds = config.episode_seeds(0)
    assert [seeds.count(seed) for seed in dict.fromkeys(seeds)] == [4, 4, 4]
    assert seeds == config.episode_seeds(0), "the same at a resume"
    assert not set(seeds) & set(config.episode_seeds(1))
    assert not set(seeds) & set(default_config(["learner.algorithm=grpo", "seed=1"]).episode_seeds(0))


def test_without_groups_every_episode_has_a_start_of_its_own():
    config = default_config(["learner.algorithm=reinforce", "learner.ppo.epochs=1", "rollout.episodes_per_update=9"])
    assert len(set(config.episode_seeds(0))) == 9


def test_groups_must_fill_an_update():
    with pytest.raises(ConfigError, match="episodes_per_update is 64, no multiple of rollout.group_size = 7"):
        default_config(["learner.algorithm=grpo", "rollout.group_size=7"])
