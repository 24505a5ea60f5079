import ast
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import gym_cards
from envs.gym_cards.formula import BLANK, GRAMMARS, MAX_BITS, Reading, evaluate, written
from tests.envs.gym_cards import formula_reference as reference

SYMBOLS = ("+", "-", "*", "/", "(", ")", BLANK)
TOKENS = st.one_of(st.integers(1, 13), st.sampled_from(SYMBOLS))
FORMULAS = st.lists(TOKENS, max_size=21)


def spelled(text):
    """A formula from text in which tokens are separated by commas, so that blanks can be written."""
    return [int(token) if token.isdigit() else token for token in text.split(",")] if text else []


@st.composite
def sensible_formulas(draw, numbers=4):
    """Mostly well-formed: numbers joined by operators, with brackets, signs and blanks strewn in."""
    formula = []
    for index in range(draw(st.integers(1, numbers))):
        if index:
            formula += draw(st.sampled_from([["+"], ["-"], ["*"], ["/"], ["*", "*"], ["/", "/"], []]))
        formula += draw(st.sampled_from([[], ["("], ["-"], ["+", "-"], [BLANK]]))
        formula.append(draw(st.integers(1, 10)))
        formula += draw(st.sampled_from([[], [")"], [BLANK]]))
    return formula + [")"] * max(0, formula.count("(") - formula.count(")"))


@pytest.mark.parametrize(
    ("text", "strict", "compatible"),
    [
        ("4,+,8", 12, 12),
        ("(,10,+,2,-,8,),*,6", 24, 24),
        ("2,*,3,+,4,*,5", 26, 26),
        ("10,-,2,-,3", 5, 5),
        ("8,/,2,/,2", 2.0, 2.0),
        ("8,/,(,3,-,8,/,3,)", 23.99999999999999, 23.99999999999999),
        ("(,(,3,),)", 3, 3),
        ("4, ,+, , ,8, ", 12, 12),  # a blank disturbs nothing between numbers and operators
        (" ,4,+,8", 12, 12),
        ("2,4", None, 24),  # digits run together
        ("10,10", None, 1010),
        ("2, ,4", None, None),  # but not across a blank
        ("2,*,*,3", None, 8),
        ("2,*, ,*,3", None, None),
        ("2,*,*,3,*,*,2", None, 512),  # from the right
        ("2,*,*,-,1", None, 0.5),
        ("-,2,*,*,2", None, -4),  # a power binds before the sign on its left
        ("2,*,*,-,3,*,*,2", None, 2**-9),
        ("10,/,/,4", None, 2),
        ("-,10,/,/,4", None, -3),  # the sign binds before the floor
        ("+,4,+,+,8", None, 12),
        ("4,-,-,8", None, 12),
        ("-,(,4,-,8,)", None, 4),
        ("2,*,*,*,3", None, None),
        ("8,/,/,/,2", None, None),
        ("*,4", None, None),
        ("4,+", None, None),
        ("", None, None),
        (" ", None, None),
        ("(,)", None, None),
        ("(,4", None, None),
        ("4,)", None, None),
        (")", None, None),
        ("4,(,3,)", None, None),
        ("(,4,),(,3,)", None, None),
        ("(,4,),3", None, None),
        ("4,/,(,2,-,2,)", None, None),  # division by zero
        ("1,/,1,-,2,/,(,2,-,2,)", None, None),
    ],
)
def test_values_case_by_case(text, strict, compatible):
    formula = spelled(text)
    assert (evaluate(formula, "strict"), evaluate(formula, "compatible")) == (strict, compatible)


def test_a_fractional_power_of_a_negative_number_is_complex_as_in_python():
    formula = spelled("(,1,-,9,),*,*,(,1,/,3,)")
    value, expected = evaluate(formula, "compatible"), (1 - 9) ** (1 / 3)
    assert isinstance(value, complex) and value == expected
    assert evaluate([*formula, "/", "/", 2], "compatible") is None


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_thousands_of_random_formulas_agree_with_pythons_parser(grammar):
    """As random play and disturbed winners leave them, hundreds of them with a value."""
    rng, valued = np.random.default_rng(3), 0
    wins = [spelled(text) for text in ("(,10,+,2,-,8,),*,6", "4,*,6,*,1,*,1", "(,10,*,10,-,4,),/,4", "8,*,2,+,5,+,3")]
    for index in range(4000):
        rules = reference.POINTS24
        formula = wins[index % 4]
        for _ in range(index % 5):
            formula = reference.disturbed(formula, rules, rng)
        if index % 2:
            formula = reference.random_formula(rules, rng.integers(1, 11, 4).tolist(), rng)
        expected = reference.value(formula, grammar)
        assert evaluate(formula, grammar) == expected, formula
        valued += expected is not None
    assert valued > 400


@settings(max_examples=400, deadline=None)
@given(sensible_formulas(), st.sampled_from(GRAMMARS))
def test_sensible_formulas_agree_with_pythons_parser(formula, grammar):
    """Where ours has no value the reference has none, or one that is far beyond any target."""
    value, expected = evaluate(formula, grammar), reference.value(formula, grammar)
    if value is None:
        assert expected is None or abs(expected) > 2**1000 or abs(expected) < 1e-300 or expected in (0, 1, -1)
    else:
        assert value == expected and type(value) is type(expected)


@settings(max_examples=300, deadline=None)
@given(FORMULAS)
def test_a_strict_value_is_the_compatible_value(formula):
    value = evaluate(formula, "strict")
    if value is not None:
        assert evaluate(formula, "compatible") == value


HOSTILE = {
    "power of powers": spelled("10,*,*,10,*,*,10"),
    "power of powers of powers": spelled("10,*,*,10,*,*,10,*,*,10"),
    "powers from the left": spelled("(,(,10,*,*,10,),*,*,10,),*,*,10"),
    "long number to itself": [10, 10, "*", "*", 10, 10],
    "ten to some ten million": [10, "*", "*", *[9] * 7],
    "ten thousand digits": [10] * 5000,
    "a thousand powers": [9, "*", "*"] * 1000 + [9],
    "a thousand brackets": ["("] * 1000 + [9] + [")"] * 1000,
    "a thousand signs": ["-"] * 1001 + [9],
    "a thousand products": [10, "*"] * 1000 + [10],
    "one to a huge power": [1, "*", "*", "(", *spelled("10,*,*,10,10"), ")"],
    "a negative huge power": [2, "*", "*", "-", "(", *spelled("10,*,*,10,10"), ")"],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_formulas_are_answered_in_little_memory(name):  # Q-3; the test's own timeout bounds the time
    for grammar in GRAMMARS:
        value = evaluate(HOSTILE[name], grammar)
        assert value is None or abs(value) < 2**MAX_BITS
        tracemalloc.start()
        try:
            evaluate(HOSTILE[name], grammar)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(FORMULAS, st.sampled_from(GRAMMARS))
def test_any_tokens_have_a_bounded_value_or_none(formula, grammar):
    value = evaluate(formula, grammar)
    assert value is None or not isinstance(value, int) or value.bit_length() <= MAX_BITS


def test_numbers_stay_exact_up_to_the_bound():
    """10 to the 1010th is the largest power that two cards can make, and is computed."""
    assert evaluate([10, "*", "*", 10, 10], "compatible") == 10**1010
    assert evaluate([10, 10, "*", "*", 10, 10], "compatible") is None


def test_nothing_here_runs_text_as_code():
    names: set[str] = set()
    for folder in gym_cards.__path__:
        for file in Path(folder).glob("*.py"):
            names |= {node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)}
    assert names & {"eval", "exec", "compile", "literal_eval", "__import__"} == set()
    assert {"evaluate", "int", "spelled"} & names == {"evaluate", "int"}, "the scan does not see what it looks for"


def test_a_reading_can_be_continued_twice():
    begun = Reading().push(4)
    assert begun is not None
    added, subtracted = begun.push("+"), begun.push("-")
    assert added is not None and subtracted is not None
    ends = [reading.push(8) for reading in (added, subtracted)]
    assert [end.value() for end in ends if end] == [12, -4]


def test_written_joins_tokens_and_keeps_blanks():
    assert written([10, "+", BLANK, 2]) == "10+ 2"
    assert written([]) == ""
