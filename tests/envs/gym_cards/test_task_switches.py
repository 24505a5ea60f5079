"""The language of the four games under every combination of switches that each honours."""

import json
import re
from copy import deepcopy
from functools import cache

import numpy as np
import pytest

import envs
from envs import PromptSwitches
from envs.check_switches import honoured, with_switches
from envs.check_task import check_expert, check_image, check_prompt
from envs.errors import EnvSetupError
from envs.walk import walk

HONOURED = {
    "gym_cards/NumberLine-v0": {"rules", "thoughts", "key_state", "text_only"},
    "gym_cards/EZPoints-v0": {"rules", "thoughts", "key_state", "formula", "text_only"},
    "gym_cards/Blackjack-v0": {"rules", "thoughts", "text_only"},
    "gym_cards/Points24-v0": {"rules", "thoughts", "key_state", "formula", "text_only"},
}
NUMBER_LINE, EZ_POINTS, BLACKJACK, POINTS24 = HONOURED
FIELDS = {
    NUMBER_LINE: ("current number", "target number", "thoughts", "action"),
    EZ_POINTS: ("cards", "current formula", "thoughts", "action"),
    BLACKJACK: ("thoughts", "action"),
    POINTS24: ("cards", "current formula", "thoughts", "action"),
}
STATES = {
    NUMBER_LINE: {"target": 4, "current": 1},
    EZ_POINTS: {"cards": ["HT", "S2"], "formula": [10, "+"]},
    BLACKJACK: {"player": [1, 6], "dealer": [9, 7]},
    POINTS24: {"cards": ["HA", "S2", "DK", "C6"], "formula": [2, "*"]},
}
EVERY = [(env_id, switches) for env_id in HONOURED for switches in honoured(envs.make(env_id)[1])]
COMBINATIONS = pytest.mark.parametrize(
    ("env_id", "switches"),
    EVERY,
    ids=[f"{env_id[10:-3]} {re.sub(r'[^a-z_:, ]', '', s.to_json())}".split(", marks")[0] for env_id, s in EVERY],
)


@cache
def visits(env_id):
    """States of random play, shared by the tests."""
    env, task = envs.make(env_id)
    return [deepcopy(visit) for visit in walk(env, task, seed=3, episodes=12)]


def state(env_id, **switches):
    """Adapter, observation and info of the game's own state above."""
    env, task = envs.make(env_id, prompt=PromptSwitches(**switches))
    return task, *env.reset(seed=0, options=STATES[env_id])


def left(env_id, switches):
    """The fields that a response still has."""
    off = set() if switches.key_state else {"current number", "target number", "cards", "current formula"}
    return [field for field in FIELDS[env_id] if field not in off and (field != "thoughts" or switches.thoughts)]


def test_the_games_honour_what_they_say():
    assert {env_id: set(envs.make(env_id)[1].switchable) for env_id in HONOURED} == HONOURED
    assert len(EVERY) == 15 + 23 + 7 + 23


@pytest.mark.parametrize(
    ("env_id", "switches", "named"),
    [
        (NUMBER_LINE, {"formula": False}, "formula=False"),
        (BLACKJACK, {"key_state": False}, "key_state=False"),
        (BLACKJACK, {"formula": False}, "formula=False"),
    ],
)
def test_a_switch_that_means_nothing_is_refused(env_id, switches, named):
    with pytest.raises(EnvSetupError, match=f"prompt.{named} means nothing to {env_id}, which honours "):
        envs.make(env_id, prompt=PromptSwitches(**switches))


@COMBINATIONS
def test_nothing_leaks_and_the_expert_stays_right(env_id, switches):
    task = with_switches(envs.make(env_id)[1], switches)
    assert check_prompt(task, visits(env_id)) == []
    assert check_expert(task, visits(env_id), seed=0) == []
    assert check_image(task, visits(env_id)) == []


@COMBINATIONS
def test_prompt_and_expert_have_exactly_the_fields_left(env_id, switches):
    task = with_switches(envs.make(env_id)[1], switches)
    fields = left(env_id, switches)
    for visit in visits(env_id):
        prompt = task.prompt(visit.observation, visit.info)
        form = re.findall(r"\{.*?\}", prompt)
        assert [list(json.loads(one)) for one in form] == ([fields] if switches.rules else [])
        for field in set(FIELDS[env_id]) - set(fields):
            assert f'"{field}"' not in prompt
        if "thoughts" not in fields:
            assert "think" not in prompt
        if not visit.ended:
            assert list(json.loads(task.expert(visit.info, np.random.default_rng(0)))) == fields


@pytest.mark.parametrize(
    ("env_id", "prompt"),
    [
        (NUMBER_LINE, "The picture shows a target number and a current number."),
        (EZ_POINTS, 'The picture shows two cards. Formula so far: "10+".'),
        (BLACKJACK, "The picture shows a game of Blackjack: one open card of the dealer, and your cards below."),
        (POINTS24, 'The picture shows four cards. Formula so far: "2*".'),
    ],
)
def test_without_rules_the_prompt_tells_the_state_alone(env_id, prompt):
    task, observation, info = state(env_id, rules=False)
    assert task.prompt(observation, info) == prompt


@COMBINATIONS
def test_what_must_be_recognised_is_in_the_response_and_nothing_that_is_told(env_id, switches):
    task = with_switches(envs.make(env_id)[1], switches)
    asked = {field for field in left(env_id, switches) if field not in ("thoughts", "action")}
    if env_id == BLACKJACK:
        asked = {"thoughts"} & set(left(env_id, switches))  # they hold the cards and nothing else
    if switches.text_only:
        asked = set()
    elif switches.formula:
        asked -= {"current formula"}
    assert {key for visit in visits(env_id) for key in task.recognition(visit.info)} == asked


@COMBINATIONS
def test_the_truth_does_not_depend_on_the_switches(env_id, switches):
    full = envs.make(env_id)[1]
    turned = with_switches(full, switches)
    assert all(turned.truth(visit.info) == full.truth(visit.info) for visit in visits(env_id))


@pytest.mark.parametrize(
    ("env_id", "truth"),
    [
        (NUMBER_LINE, {"current number": "1", "target number": "4"}),
        (EZ_POINTS, {"cards": "[10, 2]", "current formula": "10+"}),
        (BLACKJACK, {"dealer card": "9", "player cards": '["A", "6"]'}),
        (POINTS24, {"cards": "[1, 2, 10, 6]", "current formula": "2*"}),
    ],
)
def test_the_truth_behind_the_picture(env_id, truth):
    assert state(env_id)[0].truth(state(env_id)[2]) == truth


@pytest.mark.parametrize(
    ("env_id", "told"),
    [
        (NUMBER_LINE, "The target number is 4, the current number is 1."),
        (EZ_POINTS, "The two cards are 10 and 2;"),
        (BLACKJACK, "the dealer's open card is 9, your cards are A, 6."),
        (POINTS24, "The four cards are A, 2, K and 6;"),
    ],
)
def test_text_only_tells_the_state_and_shows_no_picture(env_id, told):
    task, observation, info = state(env_id, text_only=True)
    query = task.query(observation, info)
    assert told in query.text and query.images == ()
    assert "picture" not in query.text
    assert told not in state(env_id)[0].query(observation, info).text


def test_a_hidden_formula_is_in_no_prompt_but_in_the_picture_and_the_answer():
    for env_id, written in ((EZ_POINTS, "10+"), (POINTS24, "2*")):
        task, observation, info = state(env_id, formula=False)
        assert written not in task.prompt(observation, info)
        assert "and the formula so far;" in task.prompt(observation, info)
        assert json.loads(task.expert(info, np.random.default_rng(0)))["current formula"] == written
        assert f'Formula so far: "{written}".' in state(env_id)[0].prompt(observation, info)
        assert task.recall(observation, info) == ""


def test_blanks_that_no_picture_shows_are_not_asked_for():
    """A pick of an unavailable number leaves a blank, which cannot be seen at the formula's end."""
    for formula, seen in (([10, " "], "10"), ([10, " ", "+"], "10 +"), ([" "], "")):
        for hidden in (False, True):
            env, task = envs.make(EZ_POINTS, prompt=PromptSwitches(formula=not hidden))
            info = env.reset(seed=0, options={"cards": ["HT", "S2"], "formula": formula})[1]
            assert task.truth(info)["current formula"] == seen
            assert json.loads(task.expert(info, np.random.default_rng(0)))["current formula"] == seen


def test_the_dealers_second_card_is_in_no_text():
    env, _ = envs.make(BLACKJACK)
    for text_only, thoughts in ((False, True), (True, True), (True, False)):
        task = envs.make(BLACKJACK, prompt=PromptSwitches(text_only=text_only, thoughts=thoughts))[1]
        texts = set()
        for hidden in range(1, 11):
            observation, info = env.reset(seed=0, options={"player": [8, 7], "dealer": [9, hidden]})
            info["Player Card"] = [(8, "8", "H"), (7, "7", "H")]
            texts.add((task.query(observation, info).text, task.recall(observation, info), str(task.truth(info))))
        assert len(texts) == 1


@pytest.mark.parametrize(
    ("env_id", "switches", "recalled"),
    [
        (NUMBER_LINE, {}, ""),
        (NUMBER_LINE, {"text_only": True}, "The target number is 4, the current number is 1."),
        (EZ_POINTS, {}, 'Formula: "10+".'),
        (EZ_POINTS, {"formula": False}, ""),
        (BLACKJACK, {}, ""),
        (BLACKJACK, {"text_only": True}, "A game of Blackjack: the dealer's open card is 9, your cards are A, 6."),
        (POINTS24, {"text_only": True}, 'Formula: "2*".'),
    ],
)
def test_what_is_remembered_is_what_prompts_told(env_id, switches, recalled):
    task, observation, info = state(env_id, **switches)
    assert task.recall(observation, info) == recalled


def test_action_only_asks_for_the_action_alone():
    for env_id in HONOURED:
        switches = {"thoughts": False} | ({"key_state": False} if "key_state" in HONOURED[env_id] else {})
        task, observation, info = state(env_id, **switches)
        assert list(json.loads(task.expert(info, np.random.default_rng(0)))) == ["action"]
        assert task.recognition(info) == {}
        assert '{"action": "<' in task.prompt(observation, info)


def test_two_adapters_of_one_game_do_not_share_their_switches():
    plain, worded = envs.make(NUMBER_LINE)[1], envs.make(NUMBER_LINE, prompt=PromptSwitches(text_only=True))[1]
    assert (plain.switches.text_only, worded.switches.text_only) == (False, True)
