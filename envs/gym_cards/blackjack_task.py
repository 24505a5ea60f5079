"""Blackjack in words: its prompt, its scripted expert and the truth behind its picture."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.base import TaskAdapter
from envs.gym_cards.blackjack import Card, total
from envs.gym_cards.blackjack_policy import best_action

# The same text in every state: all cards must come from the picture.
_PROMPT = (
    "The picture shows a game of Blackjack: one open card of the dealer, and your cards below. J, Q and K count 10, "
    'an ace 11 or 1. Choose "hit" for another card or "stand" to stop; whoever is nearer to 21 without exceeding it '
    'wins. Answer with one JSON object: {"thoughts": "dealer <card>, player <your first card>=<total so far>, '
    '<next card>=<total so far>", "action": "<stand or hit>"}. Write A for an ace, 10 for J, Q and K, and s after a '
    "total in which an ace counts 11."
)


class BlackjackTask(TaskAdapter):
    """Language side of `gym_cards/Blackjack-v0`; names "stand" and "hit" are the actions 0 and 1."""

    env_id = "gym_cards/Blackjack-v0"
    action_names = ("stand", "hit")

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The constant task text."""
        return _PROMPT

    def expert(self, info: Mapping[str, Any], rng: np.random.Generator, noise: float = 0.0) -> str:
        """The cards with running totals, and the action that wins most often.

        Success is a win, so a draw counts for nothing here; see `blackjack_policy.py` for the other goal.

        Raises:
            ValueError: `noise` is outside [0, 1], or the player's hand exceeds 21.
        """
        worth, soft = total(_values(info["Player Card"]))
        if worth > 21:
            raise ValueError(f"the player's hand is worth {worth}: the episode is over, no step is left")
        best = best_action(worth, soft, info["Dealer Card"][0][0], goal="wins")
        answer = self.recognition(info)
        answer["action"] = self.noisy(best, info, rng, noise)
        return json.dumps(answer)

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """The thoughts, which hold what the picture shows and nothing else: the cards, and their running total."""
        # Of the dealer's cards only the first lies open; the second must never get into a text.
        dealer, player = info["Dealer Card"][0][0], _values(info["Player Card"])
        totals = [f"{_name(value)}={_worth(player[: index + 1])}" for index, value in enumerate(player)]
        return {"thoughts": f"dealer {_name(dealer)}, player {', '.join(totals)}"}


def _values(cards: Sequence[Card]) -> list[int]:
    return [value for value, _, _ in cards]


def _name(value: int) -> str:
    return "A" if value == 1 else str(value)


def _worth(values: Sequence[int]) -> str:
    worth, soft = total(values)
    return f"{worth}s" if soft else str(worth)
