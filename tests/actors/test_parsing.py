import json

import pytest

from actors.parsing import ParsedAction, find_action_key, parse_action, recognized
from protocol.trajectory import ParseStatus

CARDS = ("1", "2", "5", "10", "+", "-", "*", "=")
HOUSE = ("go to cabinet 1", "go to cabinet 10", "look", "open drawer 1")
OK, NO_KEY, UNKNOWN, AMBIGUOUS, ILLEGAL = (
    ParseStatus.OK,
    ParseStatus.NO_ACTION_KEY,
    ParseStatus.UNKNOWN_ACTION,
    ParseStatus.AMBIGUOUS,
    ParseStatus.ILLEGAL,
)


@pytest.mark.parametrize(
    ("text", "name", "status"),
    [
        # The value of the field, exactly.
        ('{"thoughts": "1 < 4", "action": "+"}', "+", OK),
        ('{"action":"-"}', "-", OK),
        ('{"action":\n\t "2"}', "2", OK),
        ('{"action": "10"}', "10", OK),
        ('{"action": "1"}', "1", OK),
        # Any letter case, blanks around the value.
        ('{"ACTION": "+"}', "+", OK),
        ('{"Action": "  + "}', "+", OK),
        # A value that contains one action; the longest name wins over the names in it.
        ('{"action": "add +"}', "+", OK),
        ('{"action": "take 10"}', "10", OK),
        ('{"action": "1010"}', "10", OK),
        ('{"action": "11"}', "1", OK),
        ('{"action": "**"}', "*", OK),
        # Several.
        ('{"action": "+ or -"}', None, AMBIGUOUS),
        ('{"action": "10+"}', None, AMBIGUOUS),
        ('{"action": "12"}', None, AMBIGUOUS),
        ('{"action": "101"}', None, AMBIGUOUS),
        # None.
        ('{"action": "J"}', None, UNKNOWN),
        ('{"action": ""}', None, UNKNOWN),
        ('{"action": ', None, UNKNOWN),
        ('{"action":', None, UNKNOWN),
        # No key, or not in the one form that is looked for.
        ("", None, NO_KEY),
        ("+", None, NO_KEY),
        ('{"thoughts": "+"}', None, NO_KEY),
        ('{"action" : "+"}', None, NO_KEY),
        ("{'action': '+'}", None, NO_KEY),
        ('{"my action": "+"}', None, NO_KEY),
        # The first key counts, and only its value.
        ('{"thoughts": "- or 5", "action": "+"}', "+", OK),
        ('{"action": "+", "action": "-"}', "+", OK),
        ('{"action": "+", "confidence": "5"}', "+", OK),
        ('{"action": "+"} 5 - 2 = {"action": "-"}', "+", OK),
        # Cut off by the token limit.
        ('{"action": "+', "+", OK),
        ('{"action": "1', "1", OK),
        # Escaped quotes do not end the value.
        (r'{"action": "say \"+\" now"}', "+", OK),
        (r'{"action": "\"', None, UNKNOWN),
        # A bare value ends with its field.
        ('{"action": 10}', "10", OK),
        ('{"action": 5, "confidence": 2}', "5", OK),
        ('{"action": +\n5 - 2', "+", OK),
        ('{"action": ["+"]}', "+", OK),
        # The action exists but not in this state.
        ('{"action": "="}', "=", ILLEGAL),
        ('{"action": "so ="}', "=", ILLEGAL),
    ],
)
def test_the_rules_on_cards(text, name, status):
    assert parse_action(text, CARDS, legal=CARDS[:-1]) == ParsedAction(name, status)


@pytest.mark.parametrize(
    ("value", "name", "status"),
    [
        ("go to cabinet 10", "go to cabinet 10", OK),
        ("Go To Cabinet 1", "go to cabinet 1", OK),
        ("I go to cabinet 10.", "go to cabinet 10", OK),
        ("go to cabinet 2", None, UNKNOWN),
        ("overlook", "look", OK),
        ("look, then open drawer 1", None, AMBIGUOUS),
    ],
)
def test_the_rules_on_commands(value, name, status):
    assert parse_action(json.dumps({"action": value}), HOUSE, HOUSE) == ParsedAction(name, status)


def test_names_keep_their_own_letter_case():
    assert parse_action('{"action": "hit"}', ("Stand", "Hit"), ("Hit",)) == ParsedAction("Hit", OK)
    assert parse_action('{"action": "STAND"}', ("Stand", "Hit"), ("Hit",)) == ParsedAction("Stand", ILLEGAL)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ('"action":', 0),
        ('{"action": "+"}', 1),
        ('{"AcTiOn": "+"}', 1),
        ("no key", -1),
        ('"act\u0131on":', -1),  # a dotless i is not an i
        # Lower-casing this letter makes two characters of it; offsets are those of the text as it is.
        ('\u0130\u0130"action":', 2),
        ('\U0001f0a1"action":', 1),
    ],
)
def test_the_offset_of_the_key_counts_characters_of_the_text(text, offset):
    assert find_action_key(text) == offset


TRUTH = {"current number": "1", "cards": "[4, 8]"}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"current number": "1", "cards": "[4, 8]", "action": "+"}', True),
        ('{"current number": 1, "cards": [4, 8]}', True),
        ('{"cards": " [4, 8] ", "current number": "1 "}', True),
        ('{"current number": "2", "cards": "[4, 8]"}', False),
        ('{"current number": "1"}', False),
        ('{"current number": "1", "cards": null}', False),
        ('{"current number": "1", "cards": "[4, 8]"', False),
        ("[1, 2]", False),
        ('"current number"', False),
        ("", False),
        ("[" * 100_000, False),
        ("1" * 5_000, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_recognized_compares_every_perception_field(text, right):
    assert recognized(text, TRUTH) is right


def test_recognized_ignores_letter_case():
    assert recognized('{"suit": "Hearts"}', {"suit": "hearts"})
    assert recognized('{"suit": "hearts"}', {"suit": "Hearts "})
