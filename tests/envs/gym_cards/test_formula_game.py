"""What EZPoints and Points24 have in common: which win it was, what a win survives, what each index means."""

import pytest

from envs.gym_cards.ez_points import EZPoints
from envs.gym_cards.formula import GRAMMARS
from envs.gym_cards.formula_game import FormulaGame
from envs.gym_cards.points24 import Points24

EQUALS = {EZPoints: 12, Points24: 16}


def spelled(text):
    return [int(token) if token.isdigit() else token for token in text.split()]


def hand_in(game, grammar, cards, formula):
    """Reward and info of "=" after this formula."""
    env = game(grammar=grammar)
    env.reset(options={"cards": cards.split(), "formula": formula})
    _, reward, terminated, truncated, info = env.step(EQUALS[game])
    assert (terminated, truncated) == (True, False)
    return reward, info


# Game, cards, formula, and the plainest grammar in which it wins; None where it never does.
HANDED_IN = [
    (EZPoints, "H4 S8", spelled("4 + 8"), "strict"),
    (EZPoints, "H4 S8", [4, " ", "+", 8], "strict"),
    (EZPoints, "H4 S8", spelled("+ 4 + 8"), "compatible"),
    (EZPoints, "H4 S8", spelled("4 + + 8"), "compatible"),
    (EZPoints, "H4 S8", spelled("4 * 8"), None),
    (EZPoints, "HT S2", spelled("10 2"), None),
    (EZPoints, "H6 S2", spelled("6 * * 2"), None),
    (Points24, "H4 S6 DA CA", spelled("4 * 6 * 1 * 1"), "strict"),
    (Points24, "H4 S6 DA CA", spelled("( 4 * 6 * 1 ) * 1"), "strict"),
    (Points24, "H2 S4 DA CA", spelled("2 4 * 1 * 1"), "compatible"),  # digits run together
    (Points24, "H2 S3 D3 CA", spelled("2 * * 3 * 3 * 1"), "compatible"),  # a power
    (Points24, "H5 S2 DQ C4", spelled("5 / / 2 * 10 + 4"), "compatible"),  # a floor
    (Points24, "H8 S3 D4 C4", spelled("- - 8 * 3 + 4 - 4"), "compatible"),  # signs
    (Points24, "H8 S3 D4 C4", spelled("8 * ( + 3 ) + 4 - 4"), "compatible"),
    (Points24, "H2 S4 DA CA", [2, " ", 4, "*", 1, "*", 1], None),  # a blank keeps digits apart
    (Points24, "H2 S3 D3 CA", [2, "*", " ", "*", 3, "*", 3, "*", 1], None),
    (Points24, "H4 S6 DA CA", spelled("4 * 6"), None),  # two cards are left over
    (Points24, "H3 S3 D8 C8", spelled("8 / ( 3 - 8 / 3 )"), None),  # just under 24, in floating point
    (Points24, "HT SJ DQ C2", spelled("10 * * 10 * * 10 + 2"), None),  # the original hung here
]


@pytest.mark.parametrize(("game", "cards", "formula", "needed"), HANDED_IN)
def test_a_win_tells_which_grammar_it_needed(game, cards, formula, needed):
    for grammar in GRAMMARS:
        reward, info = hand_in(game, grammar, cards, formula)
        won = needed is not None and GRAMMARS.index(needed) <= GRAMMARS.index(grammar)
        assert reward == (10 if won else -1)
        assert info.get("Grammar") == (needed if won else None)
        assert info["Formula"] == formula, "the = is not appended"


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_only_a_win_tells_a_grammar(grammar):
    env = EZPoints(grammar=grammar)
    infos = [env.reset(options={"cards": ["H4", "S8"]})[1]]
    infos += [env.step(action)[4] for action in (3, 10, 7)]
    assert all(list(info) == ["Cards", "Numbers", "Formula"] for info in infos)
    assert list(env.step(12)[4]) == ["Cards", "Numbers", "Formula", "Grammar"]
    assert "Grammar" not in env.reset()[1]
    for formula in ([4, "*"], [" "] * 6):  # a loss, and one token too many
        env.reset(options={"cards": ["H4", "S8"], "formula": formula})
        assert "Grammar" not in env.step(12)[4]


@pytest.mark.parametrize(("game", "cards", "formula", "needed"), HANDED_IN)
def test_the_strict_grammar_is_the_default(game, cards, formula, needed):
    env = game()
    env.reset(options={"cards": cards.split(), "formula": formula})
    assert env.step(EQUALS[game])[1] == (10 if needed == "strict" else -1)


@pytest.mark.parametrize(("penalties", "total"), [(0, 10), (9, 1), (10, 0), (13, -3), (14, -15)])
def test_a_win_survives_nine_penalties(penalties, total):  # Q-9 for the last: right, but one token too long
    env = Points24()
    env.reset(options={"cards": ["H4", "S6", "DA", "CA"]})
    picks = penalties * [4] + [3, 12, 5, 12, 0, 12, 0, 16]  # a five is not on the cards
    results = [env.step(action) for action in picks]
    assert sum(result[1] for result in results) == total
    assert results[-1][2:4] == (penalties < 14, penalties == 14)


@pytest.mark.parametrize(
    ("env", "names"),
    [
        (EZPoints(), "1 2 3 4 5 6 7 8 9 10 + * ="),
        (Points24(), "1 2 3 4 5 6 7 8 9 10 + - * / ( ) ="),
        (Points24(treat_face_cards_as_10=False), "1 2 3 4 5 6 7 8 9 10 11 12 13 + - * / ( ) ="),
    ],
    ids=["EZPoints", "Points24", "Points24 to 13"],
)
def test_an_index_means_what_it_meant_in_the_original(env, names):
    for index, name in enumerate(names.split()):
        env.reset(seed=0)
        numbers = env.reset()[1]["Numbers"]
        _, reward, terminated, _, info = env.step(index)
        if name == "=":
            assert (info["Formula"], reward, terminated) == ([], -1, True)
        elif name.isdigit():
            there = int(name) in numbers
            assert (info["Formula"], reward, terminated) == ([int(name) if there else " "], there - 1, False)
        else:
            assert (info["Formula"], reward, terminated) == ([name], 0, False)


@pytest.mark.parametrize(("game", "longest"), [(EZPoints, 5), (Points24, 20)])
def test_the_length_is_checked_before_the_equals_sign(game: type[FormulaGame], longest):
    cards = ["H4", "S8"] if game is EZPoints else ["H4", "S6", "DA", "CA"]
    right = [4, "+", 8] if game is EZPoints else spelled("4 * 6 * 1 * 1")
    for tokens, expected in ((longest, (10, True, False)), (longest + 1, (-1, False, True))):
        env = game()  # pyright: ignore[reportCallIssue]
        env.reset(options={"cards": cards, "formula": [" "] * (tokens - len(right)) + right})
        assert env.step(EQUALS[game])[1:4] == expected


@pytest.mark.parametrize("game", [EZPoints, Points24])
@pytest.mark.parametrize("grammar", ["loose", "Strict", None, ["strict"]])
def test_an_unknown_grammar_is_refused(game, grammar):
    with pytest.raises(ValueError, match="grammar must be one of 'strict', 'compatible', not "):
        game(grammar=grammar)


@pytest.mark.parametrize("value", ["no", 0, None])
def test_faces_count_ten_or_do_not(value):
    with pytest.raises(ValueError, match="treat_face_cards_as_10 must be True or False, not "):
        Points24(treat_face_cards_as_10=value)
