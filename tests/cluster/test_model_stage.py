"""What a model needs from an environment before RL: corpus, frame sizes, demonstrations, canaries."""

import json

import numpy as np
import pytest

from cluster.config import EnvConfig
from cluster.model_stage import CANARIES, CORPUS_EPISODES, corpus_of, env_maker, image_sizes, make_canaries
from envs.errors import EnvSetupError, UnknownEnvError
from protocol.errors import ConfigError
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
    assert (len(prompts), len(responses)) == (CORPUS_EPISODES, 2 * CORPUS_EPISODES)
    answers = [json.loads(text) for text in responses]
    for key in ("current number", "target number"):
        assert {answer[key] for answer in answers} == set("012345"), "every digit is seen"
    right = [("+" if a["current number"] < a["target number"] else "-") == a["action"] for a in answers]
    assert all(right[0::2]) and 0.3 < np.mean(right[1::2]) < 0.7, "the expert, then a random action"


def test_the_corpus_follows_the_seed():
    assert corpus_of(NUMBER_LINE, seed=1) == corpus_of(NUMBER_LINE, seed=1)
    assert corpus_of(NUMBER_LINE, seed=1) != corpus_of(NUMBER_LINE, seed=2)


def test_frame_sizes():
    assert image_sizes(NUMBER_LINE) == [(300, 300)]
    assert image_sizes(EnvConfig(id="tests.envs.user_env:DotEnv")) == [(64, 64)]


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
