import json

import numpy as np
import pytest

import envs
from envs.gym_cards.number_line_task import NumberLineTask
from tests.envs.gym_cards.reference import STATES

TASK = NumberLineTask()
RNG = np.random.default_rng(0)


def info(target, current):
    return {"Target": target, "Current": current}


def test_prompt_is_the_same_in_every_state():
    prompts = {TASK.prompt(None, info(target, current)) for target in range(6) for current in range(6)}
    assert len(prompts) == 1


def test_prompt_states_actions_and_template():
    prompt = TASK.prompt(None, info(4, 1))
    template = json.loads(prompt[prompt.index("{") :])
    assert list(template) == ["current number", "target number", "thoughts", "action"]
    assert all(f'"{name}"' in prompt for name in TASK.action_names)
    assert len(prompt) < 400


def test_expert_text_is_exact():
    plus = '{"current number": "1", "target number": "4", "thoughts": "1 < 4", "action": "+"}'
    minus = '{"current number": "5", "target number": "0", "thoughts": "5 > 0", "action": "-"}'
    assert TASK.expert(info(4, 1), RNG) == plus
    assert TASK.expert(info(0, 5), RNG) == minus


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_noise_reaches_the_action_only(noise):
    rng = np.random.default_rng(1)
    for target, current in STATES:
        clean = TASK.expert(info(target, current), rng)
        for _ in range(20):
            noisy = TASK.expert(info(target, current), rng, noise)
            assert noisy.partition('"action"')[0] == clean.partition('"action"')[0]
            assert json.loads(noisy)["action"] in TASK.legal_actions(info(target, current))


def test_half_the_noise_picks_the_right_action_anyway():
    rng, n = np.random.default_rng(2), 4000
    right = sum(json.loads(TASK.expert(info(4, 1), rng, 0.5))["action"] == "+" for _ in range(n))
    assert abs(right / n - 0.75) < 4 * (0.75 * 0.25 / n) ** 0.5


def test_nothing_is_left_to_say_on_the_target():
    with pytest.raises(ValueError, match="both 3: the episode is over"):
        TASK.expert(info(3, 3), RNG)


def test_recognition_is_the_truth_in_the_expert_s_words():
    assert TASK.recognition(info(4, 1)) == {"current number": "1", "target number": "4"}
    spoken = json.loads(TASK.expert(info(4, 1), RNG))
    assert TASK.recognition(info(4, 1)).items() <= spoken.items()


def test_names_are_the_originals_indices():
    assert [TASK.env_action(name, info(4, 1)) for name in ("-", "+")] == [0, 1]
    assert tuple(TASK.legal_actions(info(4, 1))) == ("-", "+")


def test_success_is_a_positive_return():
    assert [TASK.success(total, info(4, 4)) for total in (1.0, 0.0, -2.0)] == [True, False, False]


def test_the_image_is_the_observation():
    env, task = envs.make("gym_cards/NumberLine-v0")
    observation, state = env.reset(seed=0)
    assert task.image(observation, state) is observation
