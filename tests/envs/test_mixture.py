import gymnasium
import numpy as np
import pytest
from scipy.stats import chisquare

import envs
from docs.examples.dots import DotTask
from envs import Component, PromptSwitches, mix
from envs.check import check_env
from envs.errors import EnvSetupError, ResetOptionsError
from envs.mixture import COMPONENT, MIXTURE_ID, Mixture

LINES, DOTS, POINTS = "gym_cards/NumberLine-v0", "docs.examples.dots:DotEnv", "gym_cards/EZPoints-v0"


def component(env_id=DOTS, weight=1.0, **switches):
    return Component(*envs.make(env_id, prompt=PromptSwitches(**switches)), weight)


def make(**changes):
    return mix({"lines": component(LINES), "dots": component(DOTS), **changes})


def names(env, seed, episodes):
    return [env.reset(seed=seed if number == 0 else None)[1][COMPONENT] for number in range(episodes)]


def test_components_are_drawn_by_weight():
    env, _ = mix(
        {"a": component(weight=1), "b": component(weight=2), "c": component(weight=5), "d": component(weight=0)}
    )
    drawn = names(env, seed=0, episodes=2000)
    counts = [drawn.count(name) for name in "abc"]
    assert sum(counts) == 2000, "a weight of 0 is never drawn"
    assert chisquare(counts, [250, 500, 1250]).pvalue > 0.001
    assert chisquare(counts, [2000 / 3] * 3).pvalue < 1e-9, "the test could fail"


def test_the_seed_alone_decides_what_is_played():
    def play(seed):
        env, task = make()
        states = []
        for number in range(20):
            observation, info = env.reset(seed=seed if number == 0 else None)
            states.append((info[COMPONENT], task.truth(info), observation[1].tobytes()))
        return states

    assert play(1) == play(1) != play(2)


def test_an_episode_stays_with_its_component():
    env, task = make()
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(30):
        observation, info = env.reset()
        name, ended = info[COMPONENT], False
        while not ended:
            assert env.observation_space.contains(observation)
            action = task.env_action(task.legal_actions(info)[0], info)
            assert env.action_space.contains(action)
            observation, reward, terminated, truncated, info = env.step(action)
            assert (info[COMPONENT], type(reward)) == (name, float)
            ended = terminated or truncated
        assert isinstance(task.success(1.0, info), bool)
        assert task.expert(env.reset()[1], rng)


def test_the_language_is_the_components_own():
    env, task = make(words=component(LINES, text_only=True, memory=1))
    for name, (env_id, images) in {"lines": (LINES, 1), "dots": (DOTS, 1), "words": (LINES, 0)}.items():
        observation, info = env.reset(seed=0, options={"component": name})
        own = task.component(info)
        assert (own.env_id, task.task(info)) == (env_id, name)
        query = task.query(observation, info)
        assert query.text == own.query(observation[1], info).text == task.prompt(observation, info)
        assert len(query.images) == images
        assert (task.picture(observation, info) is None) == (images == 0)
        assert tuple(task.legal_actions(info)) == own.action_names
        for method in ("recognition", "truth"):
            assert getattr(task, method)(info) == getattr(own, method)(info)
        assert task.recall(observation, info) == own.recall(observation[1], info)
        assert task.fallback("up", info) is None
        assert task.mistake(info, np.random.default_rng(0)) is None
    action = task.env_action("+", info)
    assert action == (2, 1)
    observation, *_, info = env.step(action)
    assert "- The target number is" in task.query(observation, info).text, "it remembers, the others do not"


class Rooms(DotTask):
    def task(self, info):
        return info["side"]


def test_a_components_own_task_stands_behind_its_name():
    dots = component()
    env, task = mix({"dots": Component(dots.env, Rooms())})
    info = env.reset(seed=0)[1]
    assert task.task(info) == f"dots/{info['side']}"


def test_options_reach_the_component_they_name():
    env, _ = make()
    info = env.reset(options={"component": "lines", "target": 4, "current": 1})[1]
    assert (info[COMPONENT], info["Target"], info["Current"]) == ("lines", 4, 1)
    with pytest.raises(ResetOptionsError, match="no component 'cards' in the mixture of lines, dots"):
        env.reset(options={"component": "cards"})


def test_errors_of_a_component_come_through_and_leave_no_episode():
    env, _ = make()
    env.reset(seed=0)
    with pytest.raises(ResetOptionsError, match="'target' and 'current' are both 4"):
        env.reset(options={"component": "lines", "target": 4, "current": 4})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step((0, 0))
    env.reset(options={"component": "lines"})
    with pytest.raises(gymnasium.error.InvalidAction, match="from 0 to 1, not 7"):
        env.step((0, 7))


@pytest.mark.parametrize("action", [(1, 0), (0,), 0, None, [0, 0]])
def test_an_action_of_another_component_is_refused(action):
    env, _ = make()
    env.reset(options={"component": "lines"})
    with pytest.raises(gymnasium.error.InvalidAction, match=r"must be a pair \(0, action of component 'lines'\), not"):
        env.step(action)


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        make()[0].step((0, 0))


@pytest.mark.parametrize(
    ("weights", "shown"), [((), "{}"), ((0.0,), "0.0"), ((1.0, -1.0), "-1.0"), ((float("nan"),), "nan")]
)
def test_weights_must_be_weights(weights, shown):
    with pytest.raises(EnvSetupError, match=f"weights of at least 0 and one above, not .*{shown}"):
        mix({f"c{number}": component(weight=weight) for number, weight in enumerate(weights)})


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_must_fit_into_tags(name):
    with pytest.raises(EnvSetupError, match="tags rows and metrics"):
        mix({name: component()})


def test_a_mixture_of_mixtures_is_refused():
    with pytest.raises(EnvSetupError, match="'inner' is a mixture itself: name its components beside the others"):
        make(inner=Component(*make()))


def test_closing_closes_every_component():
    closed = []
    env, _ = make()
    for number, part in enumerate(env.envs):
        part.close = lambda number=number: closed.append(number)  # type: ignore[method-assign]
    env.close()
    assert closed == [0, 1]


def test_a_mixture_passes_the_conformance_kit():
    report = check_env(lambda: make(points=component(POINTS, memory=1)), episodes=6)
    assert report.passed, str(report)


def test_the_kit_finds_a_fault_of_one_component(monkeypatch):
    faulty = component()
    monkeypatch.setattr(type(faulty.task), "prompt", lambda self, observation, info: f"It is {info['side']}.")
    report = check_env(make)
    assert [finding.check for finding in report.findings if not finding.passed] == ["prompt", "memory"]
    assert "tells 'dot'" in str(report)


def test_the_environment_names_itself():
    env, task = make()
    assert isinstance(env, Mixture) and task.env_id == MIXTURE_ID
    assert env.names == ("lines", "dots")
