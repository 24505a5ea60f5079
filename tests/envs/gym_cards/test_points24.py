import gymnasium
import numpy as np
import pytest

from envs.errors import ResetOptionsError
from envs.gym_cards.deck import RANKS
from envs.gym_cards.formula import GRAMMARS
from envs.gym_cards.points24 import Points24
from tests.envs.gym_cards import formula_reference as reference
from tests.envs.gym_cards.formula_reference import POINTS24 as RULES

HAND = ("H2", "S6", "DT", "C8")
WINNER = ["(", 10, "+", 2, "-", 8, ")", "*", 6]
PLUS = RULES.names.index("+")


@pytest.fixture
def env():
    return Points24()


def place(env, formula=(), cards=HAND):
    return env.reset(options={"cards": list(cards), "formula": list(formula)})


def spelled(text):
    return [int(token) if token.isdigit() else token for token in text.split(",")]


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_thousands_of_placed_transitions_agree_with_the_reference(grammar):
    env, rng = Points24(grammar=grammar), np.random.default_rng(1)
    won = truncated_seen = blanks = 0
    texts = ("4,*,6,*,1,*,1", "2,4,*,1,*,1", "2,*,*,3,*,3,*,1", "-,-,8,*,3,+,4,-,4")
    wins = [WINNER, *map(spelled, texts)]
    for index in range(2500):
        numbers = rng.integers(1, 11, 4).tolist()
        formula = reference.random_formula(RULES, numbers, rng)
        if index % 3 == 0:
            formula = wins[index % 5]
            for _ in range(int(rng.integers(3))):
                formula = reference.disturbed(formula, RULES, rng)
            numbers = [token for token in formula if isinstance(token, int)]
        place(env, formula, ["H" + RANKS[number - 1] for number in numbers])
        name = "=" if index % 3 == 0 else RULES.names[rng.integers(17)]
        _, reward, terminated, truncated, info = env.step(RULES.names.index(name))
        expected = reference.transition(RULES, numbers, formula, name, grammar)
        assert (info["Formula"], reward, terminated, truncated) == expected, (numbers, formula, name)
        assert info["Numbers"] == numbers
        won, truncated_seen, blanks = won + (reward == 10), truncated_seen + truncated, blanks + (reward == -1)
    assert min(won, truncated_seen, blanks) > 70


def test_thousands_of_played_transitions_agree_with_the_reference(env):
    rng, ended, numbers, formula, lengths = np.random.default_rng(2), True, [], [], set()
    steps = 0
    for index in range(6000):
        if ended:
            _, info = env.reset(seed=2 if index == 0 else None)
            numbers, formula, steps = info["Numbers"], info["Formula"], 0
            assert formula == []
        name = RULES.names[rng.integers(17)]
        _, reward, terminated, truncated, info = env.step(RULES.names.index(name))
        expected = reference.transition(RULES, numbers, formula, name, "strict")
        assert (info["Formula"], reward, terminated, truncated) == expected
        formula, ended, steps = expected[0], terminated or truncated, steps + 1
        lengths |= {steps} if ended else set()
    assert lengths == set(range(1, 23))


@pytest.mark.parametrize(
    ("formula", "name", "expected"),
    [
        ([], "2", (0, False, False, [2])),
        ([], "5", (-1, False, False, [" "])),
        ([2, "*"], "2", (-1, False, False, [2, "*", " "])),
        ([], ")", (0, False, False, [")"])),  # symbols are not checked
        (WINNER, "=", (10, True, False, WINNER)),
        ([" ", *WINNER, " "], "=", (10, True, False, [" ", *WINNER, " "])),
        (WINNER[:-2], "=", (-1, True, False, WINNER[:-2])),
        ([], "=", (-1, True, False, [])),
        ([2, "*", 6, "+", 10, "+", 8], "=", (-1, True, False, [2, "*", 6, "+", 10, "+", 8])),
        ([" "] * 11 + WINNER, "=", (10, True, False, [" "] * 11 + WINNER)),  # 20 tokens can be submitted
        ([" "] * 12 + WINNER, "=", (-1, False, True, [" "] * 12 + WINNER)),  # right, but too long
        ([" "] * 20, "2", (0, False, False, [" "] * 20 + [2])),
        ([" "] * 21, "2", (-1, False, True, [" "] * 21)),
    ],
)
def test_rules_case_by_case(env, formula, name, expected):
    place(env, formula)
    _, reward, terminated, truncated, info = env.step(RULES.names.index(name))
    assert (reward, terminated, truncated, info["Formula"]) == expected


def test_initial_hands_follow_the_published_distribution(env):
    """Chi-square; the limits are exceeded once in 1000 seeds."""
    env.reset(seed=3)
    hands = [env.reset()[1]["Cards"] for _ in range(4000)]
    codes = {suit + rank: 0 for suit in "HSDC" for rank in RANKS}
    for place_in_hand in range(4):
        dealt = codes | {code: 0 for code in codes}
        for hand in hands:
            dealt[hand[place_in_hand]] += 1
        assert reference.chi_square(dealt, dict.fromkeys(codes, 1 / 52)) < 87.9  # 51 degrees of freedom
    pairs = {one + two: 0 for one in RANKS for two in RANKS}
    for hand in hands:
        pairs[hand[0][1] + hand[1][1]] += 1
        pairs[hand[2][1] + hand[3][1]] += 1
    assert reference.chi_square(pairs, dict.fromkeys(pairs, 1 / 169)) < 229.7  # 168


def test_face_cards_can_count_on_to_thirteen():
    env = Points24(treat_face_cards_as_10=False)
    assert env.action_space == gymnasium.spaces.Discrete(20)
    _, info = place(env, [13, "-"], ["HK", "SQ", "DA", "CT"])
    assert info["Numbers"] == [13, 12, 1, 10]
    for action in (11, 14, 9, 13, 0):  # 12 - 10 + 1 after the "-"
        info = env.step(action)[4]
    assert info["Formula"] == [13, "-", 12, "-", 10, "+", 1]
    assert env.step(19)[1:3] == (-1, True)
    place(env, [13, "+", 12, "-", 1], ["HK", "SQ", "DA", "CA"])
    assert [env.step(action)[1] for action in (15, 0, 19)] == [0, 0, 10]


def test_state_injection_is_exact(env):
    _, info = place(env, [8, " ", "("])
    assert info == {"Cards": list(HAND), "Numbers": [2, 6, 10, 8], "Formula": [8, " ", "("]}
    assert place(env, cards=["HA", "HA", "HA", "HA"])[1]["Numbers"] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cards": ["H4", "S8"]}, "list of 4 codes"),
        ({"cards": list(HAND), "formula": [" "] * 22}, "list of at most 21 tokens"),
        ({"cards": list(HAND), "formula": [2, "+", 2]}, r"holds 2; after \[2, '\+'\] .* \[6, 10, 8\]"),
        ({"cards": list(HAND), "formula": ["**"]}, "holds '\\*\\*'"),
    ],
)
def test_impossible_states_are_refused_and_leave_the_old_one(env, options, message):
    place(env, [2])
    with pytest.raises(ResetOptionsError, match=message):
        env.reset(options=options)
    assert env.step(PLUS)[4]["Formula"] == [2, "+"]
