"""The formula games once more, read off the published rules with Python's own parser; slow, and sharing no code."""

import ast
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
PLAIN = (ast.Add, ast.Sub, ast.Mult, ast.Div)
HUGE_BITS = 100_000


@dataclass(frozen=True)
class Rules:
    """One game in numbers; `names` are the actions in order."""

    target: int
    cards: int
    most_tokens: int
    names: tuple[str, ...]


EZ_POINTS = Rules(12, 2, 5, tuple("1 2 3 4 5 6 7 8 9 10 + * =".split()))
POINTS24 = Rules(24, 4, 20, tuple("1 2 3 4 5 6 7 8 9 10 + - * / ( ) =".split()))


class Refused(Exception):
    """Not a number, or one that takes too long to compute."""


def value(formula, grammar):
    """What a formula is worth; None where Python, or for "strict" plain arithmetic, makes nothing of it."""
    # Tokens kept apart cannot run together, so Python's parser refuses "2 4" and "* *" by itself.
    text = "".join(map(str, formula)) if grammar == "compatible" else " ".join(map(str, formula))
    try:
        return _of_node(ast.parse(text.strip(), mode="eval").body, grammar)
    except (SyntaxError, ArithmeticError, TypeError, Refused):
        return None


def _of_node(node, grammar) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and grammar == "compatible":
        number = _of_node(node.operand, grammar)
        return -number if isinstance(node.op, ast.USub) else +number
    if isinstance(node, ast.BinOp) and (grammar == "compatible" or isinstance(node.op, PLAIN)):
        left, right = _of_node(node.left, grammar), _of_node(node.right, grammar)
        if isinstance(node.op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
            if abs(left) > 1 and right * left.bit_length() > HUGE_BITS:
                raise Refused
        return BINARY[type(node.op)](left, right)
    raise Refused  # a call, an empty tuple, a starred argument: TypeErrors in the original


def transition(rules, numbers, formula, name, grammar):
    """One step: the new formula, reward, terminated, truncated."""
    if len(formula) > rules.most_tokens:
        return formula, -1, False, True
    if name == "=":
        complete = len([token for token in formula if not isinstance(token, str)]) == rules.cards
        return formula, (10 if complete and value(formula, grammar) == rules.target else -1), True, False
    if not name.isdigit():
        return [*formula, name], 0, False, False
    if [*formula, int(name)].count(int(name)) > numbers.count(int(name)):
        return [*formula, " "], -1, False, False
    return [*formula, int(name)], 0, False, False


def random_formula(rules, numbers, rng, most=None):
    """Tokens that any play might have left: random ones, of numbers and symbols, here and there a blank."""
    formula, left = [], list(numbers)
    for _ in range(int(rng.integers((rules.most_tokens + 1 if most is None else most) + 1))):
        if rng.random() < 0.1:
            formula.append(" ")
        elif left and rng.random() < 0.5:
            formula.append(left.pop(int(rng.integers(len(left)))))
        else:
            symbols = [name for name in rules.names if not name.isdigit() and name != "="]
            formula.append(symbols[int(rng.integers(len(symbols)))])
    return formula


def disturbed(formula, rules, rng):
    """The formula with a blank, a sign or a bracket put somewhere, if it stays short enough."""
    extra = [" ", *(name for name in rules.names if not name.isdigit() and name != "=")]
    at = int(rng.integers(len(formula) + 1))
    longer = [*formula[:at], extra[int(rng.integers(len(extra)))], *formula[at:]]
    return longer if len(longer) <= rules.most_tokens + 1 else list(formula)


def chi_square(counts, odds):
    """Pearson's statistic of observed counts against exact odds, both dicts over the same states."""
    n = sum(counts.values())
    assert set(counts) == set(odds) and abs(float(sum(odds.values())) - 1) < 1e-12
    return sum((counts[state] - n * float(p)) ** 2 / (n * float(p)) for state, p in odds.items())


def play_randomly(env, names, episodes, rng):
    """Uniformly random play, one row per episode: success, return, truncated, length."""
    rows = []
    for _ in range(episodes):
        env.reset()
        total, length, ended, truncated = 0.0, 0, False, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(int(rng.integers(names)))
            total, length, ended = total + reward, length + 1, terminated or truncated
        rows.append((total > 0, total, truncated, length))
    return np.array(rows, dtype=float)
