"""What is played, as configuration: prompt switches and mixtures."""

from dataclasses import fields

import pytest

from cluster.config import default_config, load_config, save_config
from cluster.config.env import ComponentConfig, EnvConfig, PromptConfig, SingleEnvConfig
from envs.switches import PromptSwitches
from protocol.errors import ConfigError

MIXTURE = """
env:
  mixture:
    lines: {id: gym_cards/NumberLine-v0, weight: 2, prompt: {memory: 1, memory_frames: true}}
    dots: {id: "docs.examples.dots:DotEnv", thought_weight: 0.25}
"""


def test_the_switches_are_those_of_the_environments_in_name_order_and_default():
    assert list(PromptConfig.model_fields) == [field.name for field in fields(PromptSwitches)]
    assert PromptConfig().switches() == PromptSwitches()
    changed = {"thoughts": False, "marks": "envs.marks:grid", "memory": 3, "memory_frames": True}
    assert PromptConfig(**changed).switches() == PromptSwitches(**changed)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["env.prompt.memory=-1"], "env.prompt.memory: Input should be greater than or equal to 0 (got -1)"),
        (["env.prompt.memory_frames=true"], "set prompt.memory to 1 or more"),
        (["env.prompt.text_only=true", "env.prompt.formula=false"], "leaves nothing that tells the state"),
        (["env.prompt.thougts=false"], "did you mean 'env.prompt.thoughts'?"),
        (["env.mixture.a.weight=-1"], "env.mixture.a.weight: Input should be greater than or equal to 0 (got -1)"),
        (["env.mixture.a.weigth=1"], "unknown key 'env.mixture.a.weigth', did you mean 'env.mixture.a.weight'?"),
        (["env.mixture.id.prompt.memry=1"], "did you mean 'env.mixture.id.prompt.memory'?"),
        (["env.mixture.a.thought_weight=2"], "env.mixture.a.thought_weight: Input should be less than or equal to 1"),
        (["env.mixture.a.weight=0", "env.mixture.b.weight=0"], "no component with a weight above 0"),
        (["env.mixture.a/b.weight=1"], "component name 'a/b' tags rows and metrics"),
        (["env.mixture.a.weight=1", "env.kwargs.x=1"], "env.kwargs has no effect beside env.mixture"),
        (["env.mixture.a.weight=1", "env.prompt.memory=1"], "env.prompt has no effect beside env.mixture"),
        (["env.mixture.a.weight=1", "env.adapter=a:B"], "env.adapter has no effect beside env.mixture"),
    ],
)
def test_mistakes_are_named_when_the_configuration_is_read(overrides, told):
    with pytest.raises(ConfigError) as caught:
        default_config(overrides)
    assert told in caught.value.message


def test_a_mixture_is_read_and_saved(tmp_path):
    (tmp_path / "mix.yaml").write_text(MIXTURE)
    config = load_config(tmp_path / "mix.yaml", ["env.mixture.dots.weight=3"])
    lines, dots = config.env.mixture["lines"], config.env.mixture["dots"]
    assert (lines.weight, lines.thought_weight, dots.weight, dots.thought_weight) == (2.0, None, 3.0, 0.25)
    assert lines.prompt.switches() == PromptSwitches(memory=1, memory_frames=True)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config, "all keys are written, and none counts as set beside it"


def test_an_environment_is_called_by_its_id_and_a_mixture_by_its_components():
    assert EnvConfig().label == "gym_cards/NumberLine-v0"
    assert EnvConfig(mixture={"lines": ComponentConfig(), "dots": ComponentConfig()}).label == "lines+dots"


def test_components_stand_at_their_place_in_the_configuration():
    alone = EnvConfig()
    assert alone.components == {"env": alone}
    part = ComponentConfig(weight=2)
    assert EnvConfig(mixture={"a": part}).components == {"env.mixture.a": part}
    assert isinstance(part, SingleEnvConfig)


def test_the_server_takes_as_many_pictures_as_the_longest_prompt_shows(tmp_path):
    assert default_config().engine.max_images_per_prompt == 1
    shown = ["env.prompt.memory=3", "env.prompt.memory_frames=true"]
    assert default_config(shown).engine.max_images_per_prompt == 4
    assert default_config(shown[:1]).engine.max_images_per_prompt == 1
    assert default_config([*shown, "servers.max_images_per_prompt=9"]).engine.max_images_per_prompt == 9
    (tmp_path / "mix.yaml").write_text(MIXTURE)
    assert load_config(tmp_path / "mix.yaml").engine.max_images_per_prompt == 2
