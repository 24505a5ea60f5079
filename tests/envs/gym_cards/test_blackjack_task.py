import json

import numpy as np
import pytest

from envs.gym_cards.blackjack import Blackjack
from envs.gym_cards.blackjack_task import BlackjackTask

TASK = BlackjackTask()
RNG = np.random.default_rng(0)
ENV = Blackjack()


def info(player, dealer=(9, 7)):
    return ENV.reset(options={"player": list(player), "dealer": list(dealer)})[1]


@pytest.mark.parametrize(
    ("player", "dealer", "text"),
    [
        ((8, 10), (9, 7), '{"thoughts": "dealer 9, player 8=8, 10=18", "action": "stand"}'),
        ((10, 2), (10, 7), '{"thoughts": "dealer 10, player 10=10, 2=12", "action": "hit"}'),
        ((1, 6), (1, 7), '{"thoughts": "dealer A, player A=11s, 6=17s", "action": "hit"}'),
        ((1, 1, 10), (6, 7), '{"thoughts": "dealer 6, player A=11s, A=12s, 10=12", "action": "stand"}'),
        ((6, 1, 3), (6, 7), '{"thoughts": "dealer 6, player 6=6, A=17s, 3=20s", "action": "stand"}'),
    ],
)
def test_expert_text_is_exact(player, dealer, text):
    assert TASK.expert(info(player, dealer), RNG) == text


def test_the_hidden_card_is_in_no_text():
    for player in ((8, 10), (5, 6), (1, 6)):
        states = [info(player, (9, hidden)) for hidden in range(1, 11)]
        texts = {(TASK.prompt(None, state), TASK.expert(state, RNG), str(TASK.recognition(state))) for state in states}
        assert len(texts) == 1


def test_prompt_is_the_same_in_every_state_and_states_actions_and_template():
    prompt = TASK.prompt(None, info((8, 10)))
    assert prompt == TASK.prompt(None, info((2, 3, 4), (1, 2)))
    template = json.loads(prompt[prompt.index("{") : prompt.index("}") + 1])
    assert list(template) == ["thoughts", "action"]
    assert all(f'"{name}"' in prompt for name in TASK.action_names)
    assert len(prompt) < 550


def test_noise_reaches_the_action_only():
    state = info((8, 10))
    noisy = {TASK.expert(state, RNG, 1.0) for _ in range(100)}
    assert {text.partition('"action"')[0] for text in noisy} == {TASK.expert(state, RNG).partition('"action"')[0]}
    assert {json.loads(text)["action"] for text in noisy} == {"stand", "hit"}


def test_nothing_is_left_to_say_beyond_21():
    ENV.reset(options={"player": [10, 6], "dealer": [9, 7], "deck": [10]})
    state = ENV.step(1)[4]
    with pytest.raises(ValueError, match="worth 26: the episode is over"):
        TASK.expert(state, RNG)


def test_recognition_is_the_truth_in_the_experts_words():
    state = info((1, 6), (10, 3))
    assert TASK.recognition(state) == {"thoughts": "dealer 10, player A=11s, 6=17s"}
    assert TASK.recognition(state).items() <= json.loads(TASK.expert(state, RNG)).items()


def test_names_are_the_originals_indices():
    state = info((8, 10))
    assert [TASK.env_action(name, state) for name in ("stand", "hit")] == [0, 1]


def test_success_is_a_win_and_not_a_draw():
    assert [TASK.success(total, {}) for total in (1.0, 0.0, -1.0)] == [True, False, False]
