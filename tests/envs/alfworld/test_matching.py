import pytest

from envs.alfworld.matching import match_command

CABINETS = ("go to cabinet 1", "go to cabinet 10", "go to fridge 1", "look", "examine mug 1", "use desklamp 1")


@pytest.mark.parametrize(
    "text, command",
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
def test_table(text, command):
    assert match_command(text, CABINETS) == command
    assert match_command(text, CABINETS[::-1]) == command  # the order of the list decides nothing


def test_a_missing_two_digit_command_is_not_read_as_its_prefix():
    assert match_command("go to cabinet 10", ["go to cabinet 1", "look"]) is None


def test_a_longer_command_hides_the_one_inside():
    commands = ["open box 1", "put open box 1 in/on desk 1"]
    assert match_command("now put open box 1 in/on desk 1", commands) == "put open box 1 in/on desk 1"


def test_the_spelling_of_the_list_is_returned():
    assert match_command("look", ["Look"]) == "Look"


def test_signs_of_patterns_are_plain_text():
    assert match_command("put mug 1 in/on desk.1", ["put mug 1 in/on desk 1"]) is None
    assert match_command("a (b) c", ["(b)"]) == "(b)"


def test_nothing_matches_an_empty_list_or_an_empty_command():
    assert match_command("look", []) is None
    assert match_command("look", [""]) is None


def test_every_command_matches_itself_alone():
    commands = [f"{verb} {thing} {n}" for verb in ("go to", "open") for thing in ("shelf", "box") for n in range(1, 31)]
    assert [match_command(command, commands) for command in commands] == commands
    assert [match_command(f"So: {command}!", commands) for command in commands] == commands
