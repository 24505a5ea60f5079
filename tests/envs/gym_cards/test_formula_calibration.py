"""EZPoints and Points24 under policies whose results are known: the published reference numbers.

Once exactly, from the rules' odds, and once by playing the environment with a fixed seed.
"""

from functools import cache
from itertools import combinations_with_replacement, product
from math import factorial, prod

import numpy as np
import pytest

from envs.gym_cards.ez_points import EZPoints
from envs.gym_cards.formula import GRAMMARS
from envs.gym_cards.points24 import Points24
from tests.envs.gym_cards import formula_reference as reference
from tests.envs.gym_cards.test_ez_points import PAIRS


@cache
def random_play(rules, multiplicities):
    """Exact mean return, wins left out, truncation rate and length of random play.

    It matters only how often each number is on the cards: (1, 1, 2) stands for two cards alike among four.
    """
    numbers = tuple(number for number, count in enumerate(multiplicities) for _ in range(count))
    actions, picks = len(rules.names), sum(name.isdigit() for name in rules.names)

    @cache
    def outcome(tokens, left):
        if tokens > rules.most_tokens:
            return np.array([-1.0, 1.0, 1.0])
        total = np.array([-1.0, 0.0, 0.0])  # "="
        for number in set(left):
            total += outcome(tokens + 1, tuple(sorted([*left[: left.index(number)], *left[left.index(number) + 1 :]])))
        illegal = picks - len(set(left))
        total += (actions - 1 - len(set(left))) * outcome(tokens + 1, left) + np.array([-illegal, 0.0, 0.0])
        return total / actions + np.array([0.0, 0.0, 1.0])

    return outcome(0, numbers)


def multiplicities(hand):
    return tuple(sorted(hand.count(number) for number in set(hand)))


@cache
def random_wins(grammar):
    """Exact success rate of random play in EZPoints."""
    total = 0.0
    for (one, two), odds in PAIRS.items():
        for length in range(3, 6):
            for formula in product((*{one, two}, "+", "*", " "), repeat=length):
                if any(formula.count(number) != (one, two).count(number) for number in (one, two)):
                    continue
                if reference.value(formula, grammar) == 12:
                    total += float(odds) * chance(formula, (one, two)) / 13
    return total


def chance(formula, numbers):
    """How likely random play is to spell this formula in EZPoints."""
    left, likely = list(numbers), 1.0
    for token in formula:
        likely *= (10 - len(set(left))) / 13 if token == " " else 1 / 13
        if token in left:
            left.remove(token)
    return likely


def test_random_play_of_ez_points_has_the_published_results():
    """A success rate of 0.05 % was counted; the rules as they were make it 0.064 %, plain arithmetic 0.059 %."""
    results = [float(odds) * random_play(reference.EZ_POINTS, multiplicities(pair)) for pair, odds in PAIRS.items()]
    mean_return, truncated, length = np.sum(results, axis=0)
    assert mean_return == pytest.approx(-4.19, abs=0.005)
    assert truncated == pytest.approx(0.62, abs=0.005) and truncated == pytest.approx((12 / 13) ** 6)
    assert length == pytest.approx(5.6, abs=0.05)
    assert random_wins("compatible") == pytest.approx(0.000636, abs=5e-7)
    assert random_wins("strict") == pytest.approx(0.000588, abs=5e-7)
    for grammar in GRAMMARS:  # a win is 11 more than the -1 that it was counted as
        assert mean_return + 11 * random_wins(grammar) == pytest.approx(-4.185, abs=5e-4)


@pytest.mark.parametrize("grammar", ["strict", "compatible"])
def test_sampled_random_play_of_ez_points_agrees_within_its_error(grammar):
    """2000 episodes have standard errors of 0.038 (return), 1.1 % (truncated) and 0.043 (length); four are allowed."""
    env, episodes = EZPoints(grammar), 2000
    env.reset(seed=0)
    rows = reference.play_randomly(env, 13, episodes, np.random.default_rng(0))
    errors = rows.std(axis=0) / episodes**0.5
    assert errors[1:] == pytest.approx([0.038, 0.0109, 0.043], rel=0.15)
    assert (np.abs(rows.mean(axis=0) - [0, -4.19, 0.6186, 5.577])[1:] < 4 * errors[1:]).all()
    assert rows[:, 0].sum() <= 6  # 1.2 wins are expected, more than 6 in one of 2500 seeds


def test_random_play_of_points24_has_the_published_results():
    """Published are a return of -6.68, 30 % truncated and a length of 12.7: more than the published rules give.

    By those an episode is truncated if none of its first 21 actions is "=", so exactly (16/17)^21 = 28.0 % are, the
    mean length is 12.52 and the mean return -6.575. We keep to the rules. The published numbers were counted over a
    sample of unknown size; one of 500 episodes has standard errors of 0.17, 2.0 % and 0.33.
    """
    deals = list(combinations_with_replacement(range(1, 14), 4))
    hands = [tuple(min(rank, 10) for rank in deal) for deal in deals]
    odds = [24 / prod(factorial(deal.count(rank)) for rank in set(deal)) / 13**4 for deal in deals]
    results = [p * random_play(reference.POINTS24, multiplicities(hand)) for p, hand in zip(odds, hands, strict=True)]
    mean_return, truncated, length = np.sum(results, axis=0)
    assert sum(odds) == pytest.approx(1)
    assert truncated == pytest.approx((16 / 17) ** 21) and truncated == pytest.approx(0.30, abs=0.021)
    assert length == pytest.approx(12.52, abs=0.005) and length == pytest.approx(12.7, abs=0.2)
    assert mean_return == pytest.approx(-6.575, abs=0.001) and mean_return == pytest.approx(-6.68, abs=0.15)


def test_sampled_random_play_of_points24_agrees_within_its_error():
    """1000 episodes have standard errors of 0.12 (return), 1.4 % (truncated) and 0.23 (length); four are allowed."""
    env, episodes = Points24(), 1000
    env.reset(seed=0)
    rows = reference.play_randomly(env, 17, episodes, np.random.default_rng(0))
    errors = rows.std(axis=0) / episodes**0.5
    assert errors[1:] == pytest.approx([0.12, 0.0142, 0.234], rel=0.15)
    assert (np.abs(rows.mean(axis=0) - [0, -6.575, 0.27996, 12.52])[1:] < 4 * errors[1:]).all()
    assert rows[:, 0].sum() == 0
