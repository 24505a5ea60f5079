from fractions import Fraction

import numpy as np
import pytest

from envs.errors import ResetOptionsError
from envs.gym_cards.ez_points import EZPoints
from envs.gym_cards.formula import GRAMMARS
from tests.envs.gym_cards import formula_reference as reference
from tests.envs.gym_cards.formula_reference import EZ_POINTS as RULES

PAIRS = {
    **dict.fromkeys([(2, 10), (10, 2)], Fraction(3, 16)),
    **dict.fromkeys([(5, 7), (7, 5)], Fraction(1, 12)),
    **dict.fromkeys([(3, 9), (9, 3), (4, 8), (8, 4)], Fraction(1, 16)),
    **dict.fromkeys([(2, 6), (6, 2), (3, 4), (4, 3), (6, 6)], Fraction(1, 24)),
}
PLUS = 10


@pytest.fixture
def env():
    return EZPoints()


def place(env, formula=(), cards=("H4", "S8")):
    return env.reset(options={"cards": cards, "formula": list(formula)})


def play(env, *names):
    """Rewards of the named actions, and the last step's terminated, truncated and formula."""
    rewards, terminated, truncated, info = [], False, False, {}
    for name in names:
        _, reward, terminated, truncated, info = env.step(RULES.names.index(name))
        rewards.append(reward)
    return rewards, terminated, truncated, info["Formula"]


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_thousands_of_placed_transitions_agree_with_the_reference(grammar):
    env, rng = EZPoints(grammar), np.random.default_rng(1)
    won = truncated_seen = blanks = 0
    pairs, wins = list(PAIRS), [[4, "+", 8], [3, "*", 4], ["+", 4, "+", 8], [2, "+", "+", 10]]
    for index in range(2500):
        numbers = pairs[rng.integers(len(pairs))]
        formula = reference.random_formula(RULES, numbers, rng)
        if index % 3 == 0:
            formula = reference.disturbed(wins[index % 4], RULES, rng)
            numbers = tuple(token for token in formula if isinstance(token, int))
        place(env, formula, ["H" + "?A23456789T"[number] for number in numbers])
        name = "=" if index % 3 == 0 else RULES.names[rng.integers(13)]
        _, reward, terminated, truncated, info = env.step(RULES.names.index(name))
        expected = reference.transition(RULES, list(numbers), formula, name, grammar)
        assert (info["Formula"], reward, terminated, truncated) == expected, (numbers, formula, name)
        assert info["Numbers"] == list(numbers)
        won, truncated_seen, blanks = won + (reward == 10), truncated_seen + truncated, blanks + (reward == -1)
    assert min(won, truncated_seen, blanks) > 100


def test_thousands_of_played_transitions_agree_with_the_reference(env):
    rng, ended, numbers, formula, lengths = np.random.default_rng(2), True, [], [], set()
    steps = 0
    for index in range(4000):
        if ended:
            _, info = env.reset(seed=2 if index == 0 else None)
            numbers, formula, steps = info["Numbers"], info["Formula"], 0
            assert formula == []
        name = RULES.names[rng.integers(13)]
        _, reward, terminated, truncated, info = env.step(RULES.names.index(name))
        expected = reference.transition(RULES, numbers, formula, name, "strict")
        assert (info["Formula"], reward, terminated, truncated) == expected
        formula, ended, steps = expected[0], terminated or truncated, steps + 1
        lengths |= {steps} if ended else set()
    assert lengths == set(range(1, 8))


@pytest.mark.parametrize(
    ("formula", "name", "expected"),
    [
        ([], "4", (0, False, False, [4])),
        ([], "5", (-1, False, False, [" "])),  # not on the cards
        ([4, "+"], "4", (-1, False, False, [4, "+", " "])),  # used up
        ([], "*", (0, False, False, ["*"])),  # symbols are not checked
        ([4, "+", 8], "=", (10, True, False, [4, "+", 8])),
        ([8, "+", 4], "=", (10, True, False, [8, "+", 4])),
        ([4, " ", "+", " ", 8], "=", (10, True, False, [4, " ", "+", " ", 8])),
        ([4, "*", 8], "=", (-1, True, False, [4, "*", 8])),
        ([], "=", (-1, True, False, [])),
        ([4], "=", (-1, True, False, [4])),
        ([4, "+", 8, " ", " ", " "], "=", (-1, False, True, [4, "+", 8, " ", " ", " "])),  # right, but too long
        ([" "] * 6, "4", (-1, False, True, [" "] * 6)),
        ([" "] * 5, "4", (0, False, False, [" "] * 5 + [4])),
        ([" "] * 5, "5", (-1, False, False, [" "] * 6)),
    ],
)
def test_rules_case_by_case(env, formula, name, expected):
    place(env, formula)
    _, reward, terminated, truncated, info = env.step(RULES.names.index(name))
    assert (reward, terminated, truncated, info["Formula"]) == expected


def test_the_shortest_win_takes_four_steps_and_illegal_picks_do_not_prevent_it(env):
    place(env)
    assert play(env, "4", "+", "8", "=") == ([0, 0, 0, 10], True, False, [4, "+", 8])
    place(env)
    assert play(env, "4", "9", "+", "4", "8", "=")[0] == [0, -1, 0, -1, 0, 10]


def test_an_equal_pair_can_use_both_cards(env):
    place(env, cards=["H6", "H6"])
    assert play(env, "6", "+", "6", "=")[0] == [0, 0, 0, 10]


def test_running_digits_together_cannot_win():
    env = EZPoints("compatible")
    for cards in (["HT", "H2"], ["H2", "HT"]):
        _, info = place(env, cards=cards)
        assert play(env, *map(str, info["Numbers"]), "=")[0] == [0, 0, -1]


def test_initial_hands_follow_the_published_distribution(env):
    """Chi-square over 19 ordered pairs of ranks, 18 degrees of freedom: 42.3 is exceeded once in 1000 seeds."""
    odds = {}
    for (one, two), p in PAIRS.items():
        if {one, two} != {2, 10}:
            odds["?A23456789"[one] + "?A23456789"[two]] = p
        else:  # as the partner of a two a ten is a T, as the card it began with one of four
            for rank, share in {"T": Fraction(1, 16), "J": Fraction(1, 24)}.items():
                for ten in rank if rank == "T" else "JQK":
                    odds["2" + ten if one == 2 else ten + "2"] = share
    env.reset(seed=3)
    ranks, suits = dict.fromkeys(odds, 0), {one + two: 0 for one in "HSDC" for two in "HSDC"}
    for _ in range(6000):
        one, two = env.reset()[1]["Cards"]
        ranks[one[1] + two[1]] += 1
        suits[one[0] + two[0]] += 1
    assert reference.chi_square(ranks, odds) < 42.3
    assert reference.chi_square(ranks, dict.fromkeys(odds, Fraction(1, len(odds)))) > 300
    assert reference.chi_square(suits, dict.fromkeys(suits, Fraction(1, 16))) < 37.7  # 15 degrees of freedom


def test_every_deal_is_winnable(env):
    env.reset(seed=4)
    for _ in range(300):
        one, two = env.reset()[1]["Numbers"]
        assert play(env, str(one), "+" if one + two == 12 else "*", str(two), "=")[0][-1] == 10


def test_state_injection_is_exact(env):
    _, info = place(env, [8, " ", "+"])
    assert info == {"Cards": ["H4", "S8"], "Numbers": [4, 8], "Formula": [8, " ", "+"]}
    _, info = env.reset(options={"cards": ("CK", "D2"), "formula": (np.int64(10),)})
    assert info == {"Cards": ["CK", "D2"], "Numbers": [10, 2], "Formula": [10]}
    assert type(info["Formula"][0]) is int
    assert env.reset(options={"cards": ["H6", "H6"]})[1]["Formula"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formula": []}, "lack cards; a state needs cards"),
        ({"cards": ["H4", "S8"], "formla": []}, "'formla'; did you mean 'formula'"),
        ({"cards": ["H4"]}, "list of 2 codes"),
        ({"cards": ["H4", "S9"]}, "counts 4 and 9; only pairs from 2 to 10 with sum or product 12"),
        ({"cards": ["HA", "SQ"]}, "counts 1 and 10; only pairs"),
        ({"cards": ["H4", "S8"], "formula": "4+"}, "list of at most 6 tokens, not '4\\+'"),
        ({"cards": ["H4", "S8"], "formula": [" "] * 7}, "list of at most 6 tokens"),
        ({"cards": ["H4", "S8"], "formula": None}, "list of at most 6 tokens, not None"),
        ({"cards": ["H4", "S8"], "formula": [5]}, r"holds 5; after \[\] the cards leave the numbers \[4, 8\]"),
        ({"cards": ["H4", "S8"], "formula": [4, "+", 4]}, r"holds 4; after \[4, '\+'\] .* \[8\]"),
        ({"cards": ["H4", "S8"], "formula": ["4"]}, "holds '4'; after"),
        ({"cards": ["H4", "S8"], "formula": [4.0]}, "holds 4.0; after"),
        ({"cards": ["H4", "S8"], "formula": ["-"]}, r"holds '-'; .* symbols '\+', '\*', ' '"),
        ({"cards": ["H4", "S8"], "formula": [4, "+", 8, "="]}, "holds '='"),
    ],
)
def test_impossible_states_are_refused_and_leave_the_old_one(env, options, message):
    place(env, [4])
    with pytest.raises(ResetOptionsError, match=message):
        env.reset(options=options)
    assert env.step(PLUS)[4]["Formula"] == [4, "+"]
