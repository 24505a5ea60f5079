"""The best play of Blackjack, by dynamic programming over the infinite deck.

What a player knows is the hand's worth, whether it is soft, and the dealer's up card; nothing else helps. Two
goals are served, because they differ in a few states: winning as often as possible, where a draw is no better
than a loss, and the highest mean return.
"""

from functools import cache
from typing import Literal

Goal = Literal["wins", "return"]
Action = Literal["stand", "hit"]

_ODDS = {**dict.fromkeys(range(1, 10), 1 / 13), 10: 4 / 13}
"""Card value -> probability of drawing it."""


def best_action(worth: int, soft: bool, up: int, goal: Goal) -> Action:
    """The action of the highest value; standing where both are worth the same.

    Args:
        worth: of the player's hand, at most 21.
        soft: whether an ace in it counts 11.
        up: value of the dealer's open card, 1 to 10.
        goal: what is maximised.
    """
    return "hit" if _hit(worth, soft, up, goal) > _stand(worth, up, goal) else "stand"


@cache
def value(worth: int, soft: bool, up: int, goal: Goal) -> float:
    """Expected wins, or expected return, of best play from here."""
    if worth > 21:
        return 0.0 if goal == "wins" else -1.0
    return max(_stand(worth, up, goal), _hit(worth, soft, up, goal))


def _stand(worth: int, up: int, goal: Goal) -> float:
    ends = _dealer_ends(*_add(0, False, up))
    wins = sum(odds for end, odds in ends.items() if end < worth)
    losses = sum(odds for end, odds in ends.items() if end > worth)
    return wins if goal == "wins" else wins - losses


@cache
def _hit(worth: int, soft: bool, up: int, goal: Goal) -> float:
    return sum(odds * value(*_add(worth, soft, card), up, goal) for card, odds in _ODDS.items())


@cache
def _dealer_ends(worth: int, soft: bool) -> dict[int, float]:
    """Probability of each final worth of a dealer's hand, 0 for a bust."""
    if worth >= 17:
        return {0 if worth > 21 else worth: 1.0}
    ends: dict[int, float] = {}
    for card, odds in _ODDS.items():
        for end, further in _dealer_ends(*_add(worth, soft, card)).items():
            ends[end] = ends.get(end, 0.0) + odds * further
    return ends


def _add(worth: int, soft: bool, card: int) -> tuple[int, bool]:
    """Worth and softness after one more card."""
    worth += card
    if card == 1 and not soft and worth + 10 <= 21:
        return worth + 10, True
    if soft and worth > 21:
        return worth - 10, False
    return worth, soft
