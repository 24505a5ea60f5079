import json

import numpy as np
import pytest

import envs
from envs.gym_cards.ez_points_task import EZPointsTask

TASK = EZPointsTask()
RNG = np.random.default_rng(0)


def info(numbers, formula=()):
    return {"Cards": [], "Numbers": list(numbers), "Formula": list(formula)}


@pytest.mark.parametrize(
    ("numbers", "formula", "text"),
    [
        ((4, 8), (), '{"cards": [4, 8], "current formula": "", "thoughts": "4+8 = 12", "action": "4"}'),
        ((4, 8), (4, "+"), '{"cards": [4, 8], "current formula": "4+", "thoughts": "4+8 = 12", "action": "8"}'),
        ((4, 8), (8,), '{"cards": [4, 8], "current formula": "8", "thoughts": "8+4 = 12", "action": "+"}'),
        ((6, 2), (6, "*", 2), '{"cards": [6, 2], "current formula": "6*2", "thoughts": "6*2 = 12", "action": "="}'),
        ((10, 2), (" ",), '{"cards": [10, 2], "current formula": "", "thoughts": "10+2 = 12", "action": "10"}'),
        ((3, 4), (3, " "), '{"cards": [3, 4], "current formula": "3", "thoughts": "3*4 = 12", "action": "*"}'),
        ((3, 4), (3, "+"), '{"cards": [3, 4], "current formula": "3+", "thoughts": "none", "action": "="}'),
        ((3, 4), (" ",) * 6, '{"cards": [3, 4], "current formula": "", "thoughts": "none", "action": "="}'),
    ],
)
def test_expert_text_is_exact(numbers, formula, text):
    assert TASK.expert(info(numbers, formula), RNG) == text


def test_the_expert_always_wins_in_four_steps():
    env, task = envs.make(TASK.env_id)
    env.reset(seed=0)
    for _ in range(300):
        _, state = env.reset()
        rewards, terminated = [], False
        while not terminated:
            action = json.loads(task.expert(state, RNG))["action"]
            _, reward, terminated, _, state = env.step(task.env_action(action, state))
            rewards.append(reward)
        assert rewards == [0, 0, 0, 10]


def test_the_expert_recovers_from_what_can_be_recovered():
    """With random actions mixed in the return is 10 less a point for each illegal pick, or a loss of one more."""
    env, task, rng = *envs.make(TASK.env_id), np.random.default_rng(1)
    env.reset(seed=1)
    seen = set()
    for _ in range(300):
        _, state = env.reset()
        rewards, ended = [], False
        while not ended:
            action = json.loads(task.expert(state, rng, 0.3))["action"]
            _, reward, terminated, truncated, state = env.step(task.env_action(action, state))
            rewards.append(reward)
            ended = terminated or truncated
        seen.add(sum(rewards))
    assert {10, 9, 8, -1, -2} <= seen


def test_noise_reaches_the_action_only():
    rng = np.random.default_rng(2)
    state = info((4, 8), (4,))
    clean = TASK.expert(state, rng)
    noisy = {TASK.expert(state, rng, 1.0) for _ in range(400)}
    assert {text.partition('"action"')[0] for text in noisy} == {clean.partition('"action"')[0]}
    assert {json.loads(text)["action"] for text in noisy} == set(TASK.action_names)


def test_the_prompt_tells_the_formula_and_not_the_cards():
    prompt = TASK.prompt(None, info((4, 8), (4, "+")))
    assert '"4+"' in prompt
    assert prompt.replace('"4+"', '""') == TASK.prompt(None, info((3, 9)))
    assert all(f'"{symbol}"' in prompt for symbol in "+*=")
    assert len(prompt) < 450


def test_the_prompt_holds_a_template_in_valid_json():
    prompt = TASK.prompt(None, info((4, 8), (4, "+")))
    template = json.loads(prompt[prompt.index("{") : prompt.index("}") + 1])
    assert list(template) == ["cards", "current formula", "thoughts", "action"]
    assert template["cards"] == [0, 0]


def test_recognition_is_what_the_cards_count():
    assert TASK.recognition(info((10, 2), (10,))) == {"cards": "[10, 2]"}


def test_names_are_the_originals_indices():
    state = info((4, 8))
    assert [TASK.env_action(name, state) for name in ("1", "10", "+", "*", "=")] == [0, 9, 10, 11, 12]
    assert tuple(TASK.legal_actions(state)) == TASK.action_names


def test_success_is_a_positive_return():
    assert [TASK.success(total, {}) for total in (10.0, 1.0, 0.0, -1.0)] == [True, True, False, False]
