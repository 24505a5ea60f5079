"""What a model needs from an environment before RL: corpus, frame sizes, demonstrations, canaries."""

import json

import numpy as np
import pytest

from cluster.config.env import ComponentConfig, EnvConfig, PromptConfig
from cluster.config.stages import DemonstrationConfig
from cluster.stages.model import (
    CANARIES,
    CORPUS_STATES,
    corpus_of,
    env_maker,
    image_sizes,
    make_canaries,
    make_demonstrations,
)
from docs.examples.dots import DotEnv, DotTask
from envs.errors import EnvSetupError, UnknownEnvError
from protocol.errors import ConfigError, ExpertFailed
from tests.actors.toy_folder import IMAGE, write_toy_folder

NUMBER_LINE = EnvConfig()


def test_the_environment_is_made_with_its_arguments():
    env, adapter = env_maker(EnvConfig(kwargs={"max_position": 3}))()
    assert adapter.env_id == NUMBER_LINE.id
    env.reset(seed=0)
    assert env.unwrapped._max_position == 3  # type: ignore[attr-defined]
    env.close()


@pytest.mark.parametrize("kwargs", [{"colour": "red"}, {"max_position": 99}])
def test_arguments_that_the_environment_does_not_take_are_named(kwargs):
    with pytest.raises(ConfigError) as caught:
        env_maker(EnvConfig(kwargs=kwargs))()
    assert f"env.kwargs is {kwargs}" in caught.value.message and NUMBER_LINE.id in caught.value.cure


def test_other_errors_of_the_environment_stay_what_they_are():
    with pytest.raises(UnknownEnvError):
        env_maker(EnvConfig(id="no/Such-v0", kwargs={"a": 1}))()
    with pytest.raises(EnvSetupError, match="nowhere"):
        env_maker(EnvConfig(id="nowhere:Env", kwargs={"a": 1}))()


def test_the_corpus_is_the_environments_own_words():
    prompts, responses, actions = corpus_of(NUMBER_LINE, seed=0)
    assert actions == ("-", "+")
    assert (len(prompts), len(responses)) == (CORPUS_STATES, 2 * CORPUS_STATES)
    answers = [json.loads(text) for text in responses]
    for key in ("current number", "target number"):
        assert {answer[key] for answer in answers} == set("012345"), "every digit is seen"
    right = [("+" if a["current number"] < a["target number"] else "-") == a["action"] for a in answers]
    assert all(right[0::2]) and 0.3 < np.mean(right[1::2]) < 0.7, "the expert, then a random action"


def test_the_corpus_meets_the_texts_of_whole_episodes():
    prompts, responses, _ = corpus_of(EnvConfig(id="gym_cards/EZPoints-v0"), seed=0)
    told = [prompt.partition('Formula so far: "')[2].partition('"')[0] for prompt in prompts]
    assert {len(formula) > 0 for formula in told} == {True, False} and max(map(len, told)) >= 3
    assert {json.loads(text)["action"] for text in responses[0::2]} >= {"=", "+", "*", "10"}


def test_the_corpus_is_worded_as_the_switches_say():
    switched = EnvConfig(prompt=PromptConfig(text_only=True, thoughts=False, memory=2))
    prompts, responses, _ = corpus_of(switched, seed=0)
    assert all("The target number is" in prompt for prompt in prompts)
    assert any("- The target number is" in prompt for prompt in prompts), "and remembers"
    assert {tuple(json.loads(text)) for text in responses} == {("current number", "target number", "action")}


MIXED = EnvConfig(
    mixture={
        "dots": ComponentConfig(id="docs.examples.dots:DotEnv"),
        "lines": ComponentConfig(prompt=PromptConfig(memory=1)),
        "words": ComponentConfig(prompt=PromptConfig(text_only=True), weight=0),
    }
)


def test_the_corpus_of_a_mixture_holds_every_component():
    prompts, _, actions = corpus_of(MIXED, seed=0)
    assert actions == ("left", "right", "-", "+")
    assert len(prompts) == 3 * CORPUS_STATES
    for words in ("Is the dot left or right?", "You gave: +", "The target number is 3"):
        assert any(words in prompt for prompt in prompts)


class Baffled(DotTask):
    """Its expert knows the left side only."""

    def expert(self, info, rng, noise=0.0):
        if info["side"] == "right":
            raise ValueError("not that side")
        return super().expert(info, rng, noise)


class Mute(DotTask):
    def expert(self, info, rng, noise=0.0):
        raise ValueError("not a word")


def dots_with(adapter: str) -> EnvConfig:
    return EnvConfig(id="docs.examples.dots:DotEnv", adapter=f"tests.cluster.stages.test_model:{adapter}")


def test_states_beyond_the_expert_are_left_out_of_the_corpus():
    prompts, responses, _ = corpus_of(dots_with("Baffled"), seed=0)
    assert len(prompts) == CORPUS_STATES
    assert {json.loads(text)["dot"] for text in responses} == {"left"}
    with pytest.raises(ExpertFailed, match="nothing to say at the start of 100 episodes in a row, last: not a word"):
        corpus_of(dots_with("Mute"), seed=0)


def test_the_corpus_follows_the_seed():
    assert corpus_of(NUMBER_LINE, seed=1) == corpus_of(NUMBER_LINE, seed=1)
    assert corpus_of(NUMBER_LINE, seed=1) != corpus_of(NUMBER_LINE, seed=2)


def test_frame_sizes():
    assert image_sizes(NUMBER_LINE) == [(300, 300)]
    assert image_sizes(EnvConfig(id="docs.examples.dots:DotEnv")) == [(64, 64)]
    assert image_sizes(MIXED) == [(64, 64), (300, 300)]
    assert image_sizes(EnvConfig(prompt=PromptConfig(text_only=True))) == []


def test_a_mixture_is_made_of_its_components():
    env, adapter = env_maker(MIXED)()
    played = {adapter.task(env.reset(seed=seed)[1]) for seed in range(20)}
    assert played == {"dots", "lines"}, "a weight of 0 is never drawn"
    env.reset(options={"component": "lines"})
    assert adapter.query(*env.reset(options={"component": "words"})).images == ()
    env.close()


def test_an_error_names_the_component_and_closes_the_others(monkeypatch):
    closed = []
    monkeypatch.setattr(DotEnv, "close", lambda self: closed.append(self))
    dots = ComponentConfig(id="docs.examples.dots:DotEnv")
    wrong = EnvConfig(mixture={"dots": dots, "lines": ComponentConfig(kwargs={"colour": "red"})})
    with pytest.raises(ConfigError, match=r"env\.mixture\.lines\.kwargs is \{'colour': 'red'\}"):
        env_maker(wrong)()
    assert len(closed) == 1
    with pytest.raises(ConfigError, match=r"env\.mixture\.lines\.kwargs"):
        corpus_of(wrong, seed=0)
    unfit = EnvConfig(mixture={"dots": dots, "cards": ComponentConfig(prompt=PromptConfig(formula=False))})
    with pytest.raises(EnvSetupError, match="prompt.formula=False means nothing to gym_cards/NumberLine-v0"):
        env_maker(unfit)()


def test_demonstrations_count_what_was_beyond_the_expert(tmp_path):
    model = write_toy_folder(tmp_path / "model")
    (model / "chat_template.jinja").write_text("<begin>{% for m in messages %}<image>a{% endfor %}")
    right, noisy = DemonstrationConfig(steps=40, noise=0.0), DemonstrationConfig(steps=40, noise=0.5)
    shown = make_demonstrations(dots_with("Baffled"), str(model), {(64, 64): 1}, right, 0)
    assert shown.batches[0].steps.num_rows == 40 and shown.given_up > 5
    assert make_demonstrations(NUMBER_LINE, str(model), {(300, 300): 1}, noisy, 0).given_up == 0


def test_canaries_are_fixed_by_the_seed(tmp_path):
    model = write_toy_folder(tmp_path / "model")
    (model / "chat_template.jinja").write_text("<begin>{% for m in messages %}<image>a{% endfor %}")
    canaries = make_canaries(NUMBER_LINE, str(model), seed=0)
    assert len(canaries) == CANARIES
    for canary in canaries:
        assert list(canary.prompt_token_ids).count(IMAGE) == len(canary.images) == 1
    again = make_canaries(NUMBER_LINE, str(model), seed=0)
    assert [c.images for c in again] == [c.images for c in canaries]
    assert [c.images for c in make_canaries(NUMBER_LINE, str(model), seed=1)] != [c.images for c in canaries]
