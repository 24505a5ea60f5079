import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envs.matching import names_in, only_name_in

HOUSE = ("go to cabinet 1", "go to cabinet 10", "go to fridge 1", "look", "examine mug 1", "use desklamp 1")
CARDS = (*map(str, range(1, 11)), "+", "-", "*", "/", "(", ")", "=")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("go to cabinet 1", "go to cabinet 1"),
        ("go to cabinet 10", "go to cabinet 10"),
        ("  Go To\tCABINET 10\n", "go to cabinet 10"),
        ("I go to cabinet 10.", "go to cabinet 10"),
        ('"action": "go to cabinet 1"', "go to cabinet 1"),
        ("go to cabinet 100", None),
        ("go to cabinet 2", None),
        ("go to cabinet", None),
        ("overlook the room", None),
        ("outlook", None),
        ("look.", "look"),
        ("look, then go to fridge 1", None),
        ("go to fridge 1, yes, go to fridge 1", "go to fridge 1"),
        ("go to cabinet 1 or go to cabinet 10", None),
        ("", None),
        ("   ", None),
        ("help", None),
        ("go to cabinet １", None),
        ("İlook", None),
    ],
)
def test_commands(text, command):
    assert only_name_in(text, HOUSE) == command
    assert only_name_in(text, HOUSE[::-1]) == command  # the order of the list decides nothing


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10", ["10"]),
        ("take 10", ["10"]),
        ("1", ["1"]),
        ("11", []),
        ("100", []),
        ("1st", []),
        ("10 or 1", ["10", "1"]),
        ("1+1", ["1", "+"]),
        ("(10)", ["10", "(", ")"]),
        ("**", ["*"]),
        ("a+b", ["+"]),
        ("-5", ["5", "-"]),
        ("_5_", []),  # an underscore belongs to a word
        ("*5*", ["5", "*"]),
    ],
)
def test_cards(text, found):
    assert sorted(names_in(text, CARDS)) == sorted(found)
    assert sorted(names_in(text, CARDS[::-1])) == sorted(found)


def test_a_missing_two_digit_command_is_not_read_as_its_prefix():
    assert only_name_in("go to cabinet 10", ["go to cabinet 1", "look"]) is None


def test_a_longer_command_hides_the_one_inside():
    commands = ["open box 1", "put open box 1 in/on desk 1"]
    assert only_name_in("now put open box 1 in/on desk 1", commands) == "put open box 1 in/on desk 1"


def test_the_spelling_of_the_list_is_returned():
    assert only_name_in("look", ["Look"]) == "Look"
    assert only_name_in("I GO  to it", ["Go\tTo"]) == "Go\tTo"


def test_signs_of_patterns_are_plain_text():
    assert only_name_in("put mug 1 in/on desk.1", ["put mug 1 in/on desk 1"]) is None
    assert only_name_in("a (b) c", ["(b)"]) == "(b)"
    assert only_name_in("aaa", [".", "a+", "^", r"\w"]) is None


def test_nothing_matches_an_empty_list_or_a_blank_name():
    assert names_in("look", []) == []
    for text in ("", " ", "look"):
        assert names_in(text, ["", " \n"]) == []


# Names as games have them, and any others: words, signs, letters that change their length in lower case, blanks.
NAMES = st.lists(
    st.text(st.sampled_from("ab1 +-İßé_\t\u0301") | st.characters(codec="utf-8"), min_size=1, max_size=12)
    | st.sampled_from(HOUSE + CARDS),
    min_size=1,
    max_size=12,
)


def plain(name: str) -> str:
    """What names are compared by: ASCII letters lowered, every run of white space one blank."""
    return " ".join("".join(c.lower() if c in string.ascii_uppercase else c for c in name).split())


def different(names: list[str]) -> list[str]:
    """The names that are not blank and that differ from all before them."""
    return list({plain(name): name for name in reversed(names) if plain(name)}.values())


@settings(deadline=None, derandomize=True)
@given(NAMES)
@example(["1", "10", "go to cabinet 1", "go to cabinet 10"])
def test_every_name_is_read_as_itself_in_any_list(names):
    names = different(names)
    for name in names:
        assert names_in(name, names) == [name]
        assert names_in(
            f"\n {name.translate(str.maketrans(string.ascii_lowercase, string.ascii_uppercase))} ", names
        ) == [name]


@settings(deadline=None, derandomize=True)
@given(NAMES)
def test_in_a_sentence_a_name_hides_every_shorter_one(names):
    names = different([name for name in names if "<" not in name and ">" not in name])
    for name in names:
        assert names_in(f"<{name}>", names) == [name]


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=200), NAMES, st.randoms())
def test_the_order_of_the_names_decides_nothing(text, names, random):
    names = different(names)
    shuffled = random.sample(names, len(names))
    found = names_in(text, names)
    assert set(found) == set(names_in(text, shuffled)) and set(found) <= set(names)
    assert len(found) == len(set(found))


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=60), NAMES)
def test_a_found_name_stands_in_the_text(text, names):
    assert all(plain(name) in plain(text) for name in names_in(text, names))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["go to cabinet 1", "go to ", "1", "+", "look ", "\\", "\u0130", " ", "a" * 40 + " "])
def test_a_million_characters_are_read_in_the_time_of_the_test(unit):
    """A quadratic search would take hours; every candidate name makes one pass over the text."""
    text = unit * (1_000_000 // len(unit))
    assert set(names_in(text, HOUSE + CARDS)) <= {*HOUSE, *CARDS}
