from importlib.metadata import EntryPoint

import gymnasium
import pytest

import envs
from docs.examples.dots import DotEnv, DotTask
from envs import PromptSwitches, registry
from envs.errors import EnvSetupError, UnknownEnvError
from envs.gym_cards.number_line import NumberLine
from envs.gym_cards.number_line_task import NumberLineTask
from envs.memory import EpisodeMemory
from tests.envs import plugin

NUMBER_LINE = "gym_cards/NumberLine-v0"
DOT = "docs.examples.dots:DotEnv"


class StrayTask(DotTask):
    env_id = "somewhere:Else"


class CartPoleTask(DotTask):
    env_id = "CartPole-v1"


@pytest.fixture
def entry_points(monkeypatch):
    """Pretend that packages with these entry points, name -> "module:function", are installed."""
    before = set(gymnasium.registry)

    def install(**functions):
        points = [EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in functions.items()]
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points)
        monkeypatch.setattr(registry, "_adapters", dict(registry._adapters))
        registry._load_entry_points.cache_clear()

    yield install
    registry._load_entry_points.cache_clear()
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]


def test_make_gives_the_environment_and_its_adapter():
    env, task = envs.make(NUMBER_LINE)
    assert isinstance(env.unwrapped, NumberLine)
    assert isinstance(task, NumberLineTask)
    assert env.spec is not None and env.spec.max_episode_steps == 300


def test_import_alone_registers_with_gymnasium():
    assert isinstance(gymnasium.make(NUMBER_LINE).unwrapped, NumberLine)


def test_keyword_arguments_reach_the_environment():
    env, _ = envs.make(NUMBER_LINE, max_position=9, render_mode="rgb_array")
    env.reset(options={"target": 9, "current": 0})
    assert env.render() is not None


def test_a_users_environment_is_found_by_its_path():
    env, task = envs.make(DOT)
    assert isinstance(env.unwrapped, DotEnv)
    assert isinstance(task, DotTask)
    assert env.spec is not None and env.spec.id == task.env_id == DOT


def test_a_foreign_environment_takes_an_adapter_by_path():
    env, task = envs.make("CartPole-v1", adapter="tests.envs.test_registry:CartPoleTask")
    assert isinstance(task, CartPoleTask)
    assert type(env.unwrapped).__name__ == "CartPoleEnv"


def test_an_entry_point_registers_its_environments(entry_points):
    entry_points(dots="tests.envs.plugin:register_envs")
    assert {NUMBER_LINE, plugin.ENV_ID} <= set(envs.known_ids())
    env, task = envs.make(plugin.ENV_ID)
    assert isinstance(task, plugin.PluginTask)
    assert env.spec is not None and env.spec.max_episode_steps == 50


def test_a_broken_entry_point_is_named_but_hurts_no_registered_environment(entry_points):
    entry_points(dots="tests.envs.plugin:broken")
    envs.make(NUMBER_LINE)
    with pytest.raises(EnvSetupError, match="'dots' = 'tests.envs.plugin:broken'.*no asset folder"):
        envs.make("gym_cards/Nothing-v0")


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("gym_cards/NumberLin-v0", "did you mean 'gym_cards/NumberLine-v0'"),
        ("NumberLine-v0", "did you mean 'gym_cards/NumberLine-v0'"),
        ("numberline", "did you mean 'gym_cards/NumberLine-v0'"),
        ("zzz", "known: .*gym_cards/NumberLine-v0.*; for your own give 'module:Class'"),
        ("CartPole-v1", "pass adapter='module:Class'"),
    ],
)
def test_unknown_ids_come_with_a_suggestion(env_id, message):
    with pytest.raises(UnknownEnvError, match=message):
        envs.make(env_id)


@pytest.mark.parametrize(
    ("env_id", "adapter", "message"),
    [
        ("docs.examples.dots:DotEn", None, "has no 'DotEn'; did you mean 'DotEnv'"),
        ("tests.envs.missing:DotEnv", None, "no module 'tests.envs.missing'; install it"),
        ("tests.envs.test_registry:DotEnv", None, "exactly one TaskAdapter .*StrayTask for 'somewhere:Else'"),
        (DOT, "user_env.DotTask", "not of the form 'module:Class'"),
        (DOT, "docs.examples.dots:DotEnv", "not a subclass of envs.base.TaskAdapter"),
        (DOT, "tests.envs.test_registry:StrayTask", "is for 'somewhere:Else', not for"),
        (NUMBER_LINE, "docs.examples.dots:DotTask", "is for 'docs.examples.dots:DotEnv', not for"),
    ],
)
def test_unfit_paths_say_what_to_do(env_id, adapter, message):
    with pytest.raises(EnvSetupError, match=message):
        envs.make(env_id, adapter=adapter)


def test_an_adapter_does_not_make_an_unknown_id_known():
    with pytest.raises(UnknownEnvError, match="no environment 'zzz'"):
        envs.make("zzz", adapter="docs.examples.dots:DotTask")


def test_an_import_missing_inside_a_users_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        envs.make("half_installed:Env")


def test_an_unknown_argument_names_itself_and_the_environment():
    with pytest.raises(TypeError, match="max_positon.*gym_cards/NumberLine-v0"):
        envs.make(NUMBER_LINE, max_positon=3)


def test_an_id_is_registered_once():
    with pytest.raises(EnvSetupError, match="registered already"):
        envs.register(NUMBER_LINE, env=DOT, adapter="docs.examples.dots:DotTask")


def test_the_switches_are_set_and_checked():
    assert envs.make(NUMBER_LINE)[1].switches == PromptSwitches(memory=0)
    env, task = envs.make(NUMBER_LINE, prompt=PromptSwitches(text_only=True, memory=2))
    assert task.switches == PromptSwitches(text_only=True, memory=2)
    assert isinstance(env, EpisodeMemory)
    with pytest.raises(EnvSetupError, match=f"prompt.formula=False means nothing to {NUMBER_LINE}"):
        envs.make(NUMBER_LINE, prompt=PromptSwitches(formula=False))


class Forgetful(DotTask):
    default_memory = 3


def test_a_tasks_own_memory_counts_where_the_switches_say_nothing():
    path = "tests.envs.test_registry:Forgetful"
    env, task = envs.make(DOT, adapter=path)
    assert task.switches.memory == 3 and isinstance(env, EpisodeMemory)
    env, task = envs.make(DOT, adapter=path, prompt=PromptSwitches(memory=0))
    assert task.switches.memory == 0 and not isinstance(env, EpisodeMemory)
