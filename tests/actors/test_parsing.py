import json
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
        # A value that holds one action as a whole word; the longest name wins over the names in it.
        ('{"action": "add +"}', "+", OK),
        ('{"action": "take 10"}', "10", OK),
        ('{"action": "**"}', "*", OK),
        # Several.
        ('{"action": "+ or -"}', None, AMBIGUOUS),
        ('{"action": "10+"}', None, AMBIGUOUS),
        ('{"action": "1 2"}', None, AMBIGUOUS),
        # None, or not as a whole word.
        ('{"action": "J"}', None, UNKNOWN),
        ('{"action": "11"}', None, UNKNOWN),
        ('{"action": "12"}', None, UNKNOWN),
        ('{"action": "101"}', None, UNKNOWN),
        ('{"action": "1010"}', None, UNKNOWN),
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
        ('{"action": "", "more": "+"}', None, UNKNOWN),
        # Cut off by the token limit.
        ('{"action": "+', "+", OK),
        ('{"action": "1', "1", OK),
        # Escapes are resolved, and an escaped quote does not end the value.
        (r'{"action": "say \"+\" now"}', "+", OK),
        (r'{"action": "\u002b"}', "+", OK),
        (r'{"action": "5\n"}', "5", OK),
        (r'{"action": "\"', None, UNKNOWN),
        (r'{"action": "+ \u00', "+", OK),
        ('{"action": "+\\', "+", OK),
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
        ("overlook", None, UNKNOWN),
        ("look, then open drawer 1", None, AMBIGUOUS),
    ],
)
def test_the_rules_on_commands(value, name, status):
    assert parse_action(json.dumps({"action": value}), HOUSE, HOUSE) == ParsedAction(name, status)


def original(text: str, names: tuple[str, ...]) -> str | None:
    """RL4VLM's function for the card games, by the description of its rules; None stands for its random action."""
    text = text.lower()
    kept = text[text.find('"action":') :]  # find gives -1 where there is no key: the last character
    found = []
    if "10" in kept and "10" in names:
        found, kept = ["10"], kept.replace("10", "")
    found += [name for name in names if name != "10" and name in kept]
    return found[0] if len(found) == 1 else None


@pytest.mark.parametrize(
    ("text", "then", "now"),
    [
        # Substrings are no longer names.
        ('{"action": "11"}', "1", None),
        ('{"action": "55"}', "5", None),
        ('{"action": "100"}', "10", None),
        ('{"action": "1010"}', "10", None),
        ('{"action": "understand"}', "stand", None),
        ('{"action": "white"}', "hit", None),
        # Only the value counts, not what follows it.
        ('{"action": "+", "confidence": 5}', None, "+"),
        ('{"action": "10"} = 10', None, "10"),
        ('{"action": "hit"}. I do not stand.', None, "hit"),
        # Without the key nothing is found.
        ("the answer is 1", "1", None),
        ("so +", "+", None),
        ('{"action" : "+', "+", None),
        # Escapes are resolved.
        (r'{"action": "\u0031\u0030"}', None, "10"),
        # The rest is as it was.
        ('{"action": "10"}', "10", "10"),
        ('{"action": "**"}', "*", "*"),
        ('{"action": "=="}', "=", "="),
        ('{"action": "12"}', None, None),
        ('{"action": "10 + 2"}', None, None),
        ('{"action": "J"}', None, None),
        ('{"ACTION": "STAND"}', "stand", "stand"),
        ("it is 10", None, None),
    ],
)
def test_what_differs_from_the_original(text, then, now):
    names = (*map(str, range(1, 11)), "+", "*", "=", "stand", "hit")
    assert original(text, names) == then
    parsed = parse_action(text, names, names)
    assert (parsed.name if parsed.status is OK else None) == now


def test_what_differs_from_the_original_on_commands():
    """There the first command of the list that occurs behind the key was taken: a prefix, whatever follows it."""
    for value, now in {
        "go to cabinet 10": "go to cabinet 10",
        "overlook it": None,
        "look, open drawer 1": None,
    }.items():
        behind = json.dumps({"action": value}).lower()
        then = next(command for command in HOUSE if command in behind)
        assert then in ("go to cabinet 1", "look") and then != now
        assert parse_action(behind, HOUSE, HOUSE).name == now


def test_names_keep_their_own_letter_case():
    assert parse_action('{"action": "hit"}', ("Stand", "Hit"), ("Hit",)) == ParsedAction("Hit", OK)
    assert parse_action('{"action": "STAND"}', ("Stand", "Hit"), ("Hit",)) == ParsedAction("Stand", ILLEGAL)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"action": "fly to the moon"}', "fly to the moon"),
        (r'{"action": "say \"hi\" \u2660"}', 'say "hi" \u2660'),
        (r'{"action": "half \ud83c"}', "half ?"),  # half a character, which no row could store
        (r'{"action": "cut \u26', r"cut \u26"),
        ('{"action": "a\nb"}', "a\nb"),
        ('{"action": "a\\\nb"}', "a\\\nb"),
        ('{"action": fly, "x": 1}', "fly"),
        ('{"action": }', ""),
        ("fly", ""),
    ],
)
def test_the_text_of_the_field_is_kept(text, value):
    assert parse_action(text, HOUSE, HOUSE).value == value


# Any text, and texts that come near a response.
PIECES = ('"action":', '"', "\\", "\\u", "d83c", "{", "}", "\n", "1", "10", "+", "go to cabinet 1", "ACTION", " ", "İ")
REPEATED = st.builds(str.__mul__, st.text(max_size=100) | st.sampled_from(PIECES), st.integers(1, 1000))
MIXED = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map("".join)
TEXTS = st.text(max_size=300) | REPEATED | MIXED
ANY = settings(deadline=None, derandomize=True)


@ANY
@given(TEXTS, st.sampled_from([CARDS, HOUSE]), st.integers(0, 4))
@example('{"action": "\ud800"}', CARDS, 1)
def test_any_text_comes_to_a_legal_action_or_to_none(text, names, legal):
    parsed = parse_action(text, names, names[:legal])
    assert (parsed.status in (OK, ILLEGAL)) == (parsed.name is not None)
    assert (parsed.status is OK) == (parsed.name in names[:legal])
    assert (parsed.status is NO_KEY) == (find_action_key(text) < 0)
    assert parsed == parse_action(text, names, names[:legal])


@ANY
@given(TEXTS)
def test_the_text_of_the_field_can_be_stored(text):
    text = text.encode("utf-8", "replace").decode()  # as every tokenizer gives it
    parse_action(text, HOUSE, HOUSE).value.encode("utf-8")


@ANY
@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=8), st.booleans(), TEXTS)
@example(['say "hi"', "back\\slash", "café 1", "♠"], True, "")
def test_every_name_that_json_can_write_is_read_as_itself(names, ascii_only, behind):
    distinct = {" ".join(name.lower().split()): name for name in names}
    distinct.pop("", None)
    names = tuple(distinct.values())
    for name in names:
        text = json.dumps({"thoughts": "1 < 4", "action": name}, ensure_ascii=ascii_only) + behind
        assert parse_action(text, names, names) == ParsedAction(name, OK)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        '{"action": "' + "a" * 1_000_000,
        '{"action": "' + "\\" * 1_000_001,
        '{"action": "' + r"\u0130" * 160_000 + '"}',
        '{"action": ' + " " * 1_000_000,
        '"action"' * 120_000,
        '{"action": "' + "go to " * 160_000,
        '"' * 1_000_000,
        "[" * 1_000_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_million_characters_are_read_in_the_time_and_memory_of_the_test(text):
    """Quadratic work would take hours; what a pattern remembers to go back to would take a hundred megabytes."""
    tracemalloc.start()
    parsed = parse_action(text, HOUSE, HOUSE)
    recognized(text, {"cards": "[1]"})
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert parsed.name is None
    assert peak_bytes < 60 * len(text)


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
BOTH, NUMBER, CARDS_ONLY, NEITHER = (True, True), (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('{"current number": "1", "cards": "[4, 8]", "action": "+"}', BOTH),
        ('{"current number": 1, "cards": [4, 8]}', BOTH),
        ('{"cards": " [4, 8] ", "current number": "1 "}', BOTH),
        ('{"current number": "2", "cards": "[4, 8]"}', CARDS_ONLY),
        ('{"current number": "1", "cards": [8, 4]}', NUMBER),
        ('{"current number": "1"}', NUMBER),
        ('{"current number": "1", "cards": null}', NUMBER),
        ('{"current number": true, "cards": {"4": 8}}', NEITHER),
        ('{"current number": "1", "cards": "[4, 8]"', NEITHER),
        ("[1, 2]", NEITHER),
        ('"current number"', NEITHER),
        ("", NEITHER),
        ("[" * 100_000, NEITHER),
        ('{"cards":' + "[" * 500 + "]" * 500 + "}", NEITHER),
        ("1" * 5_000, NEITHER),
        ("\ud800", NEITHER),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_recognized_compares_every_perception_field(text, right):
    assert recognized(text, TRUTH) == dict(zip(TRUTH, right, strict=True))


def test_a_missing_field_is_not_the_word_for_nothing():
    assert recognized('{"action": "+"}', {"card": "none"}) == {"card": False}
    assert recognized('{"card": null}', {"card": "none"}) == {"card": True}


def test_recognized_ignores_letter_case():
    assert recognized('{"suit": "Hearts"}', {"suit": "hearts"}) == {"suit": True}
    assert recognized('{"suit": "hearts"}', {"suit": "Hearts "}) == {"suit": True}


def test_without_fields_nothing_is_recognized():
    assert recognized('{"action": "+"}', {}) == {}


@ANY
@given(TEXTS | st.text(st.sampled_from('{}[]",:1 \\u'), max_size=2000))
def test_any_text_can_be_compared(text):
    assert set(recognized(text, TRUTH)) == set(TRUTH)
