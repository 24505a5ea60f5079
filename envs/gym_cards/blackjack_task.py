"""Blackjack in words: its prompt, its scripted expert and the truth behind its picture."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from envs.base import TaskAdapter
from envs.gym_cards.blackjack import Card, total
from envs.gym_cards.blackjack_policy import best_action

# With a picture the same text in every state: all cards must come from it.
_SHOWN = "The picture shows a game of Blackjack: one open card of the dealer, and your cards below."
_TOLD = "A game of Blackjack: the dealer's open card is {dealer}, your cards are {player}."
_RULES = (
    'J, Q and K count 10, an ace 11 or 1. Choose "hit" for another card or "stand" to stop; whoever is nearer to 21 '
    "without exceeding it wins."
)
_FORM = {
    "thoughts": "dealer <card>, player <your first card>=<total so far>, <next card>=<total so far>",
    "action": "<stand or hit>",
}
_SPELLING = " Write A for an ace, 10 for J, Q and K, and s after a total in which an ace counts 11."


class BlackjackTask(TaskAdapter):
    """Language side of `gym_cards/Blackjack-v0`; names "stand" and "hit" are the actions 0 and 1."""

    env_id = "gym_cards/Blackjack-v0"
    action_names = ("stand", "hit")
    switchable: ClassVar[frozenset[str]] = frozenset({"rules", "thoughts", "text_only"})

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The rules and the form of the answer, unless they are left out."""
        told = self._told(info) if self.switches.text_only else _SHOWN
        if not self.switches.rules:
            return told
        form = f"Answer with one JSON object: {json.dumps(self.kept(_FORM))}."
        return f"{told} {_RULES} {form}{_SPELLING if self.switches.thoughts else ''}"

    def recall(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The cards where no picture shows them."""
        return self._told(info) if self.switches.text_only else ""

    def _told(self, info: Mapping[str, Any]) -> str:
        # Of the dealer's cards only the first lies open; the second must never get into a text.
        return _TOLD.format(
            dealer=info["Dealer Card"][0][1], player=", ".join(face for _, face, _ in info["Player Card"])
        )

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
        answer = {"thoughts": self._reading(info), "action": self.noisy(best, info, rng, noise)}
        return json.dumps(self.kept(answer))

    def truth(self, info: Mapping[str, Any]) -> dict[str, str]:
        """What the open cards count: the dealer's, and the player's as a JSON list."""
        dealer, player = info["Dealer Card"][0][0], _values(info["Player Card"])
        return {"dealer card": _name(dealer), "player cards": json.dumps([_name(value) for value in player])}

    def recognition(self, info: Mapping[str, Any]) -> dict[str, str]:
        """The thoughts, which hold what the picture shows and nothing else: the cards, and their running total."""
        return {} if self.switches.text_only else self.kept({"thoughts": self._reading(info)})

    def _reading(self, info: Mapping[str, Any]) -> str:
        dealer, player = info["Dealer Card"][0][0], _values(info["Player Card"])
        totals = [f"{_name(value)}={_worth(player[: index + 1])}" for index, value in enumerate(player)]
        return f"dealer {_name(dealer)}, player {', '.join(totals)}"


def _values(cards: Sequence[Card]) -> list[int]:
    return [value for value, _, _ in cards]


def _name(value: int) -> str:
    return "A" if value == 1 else str(value)


def _worth(values: Sequence[int]) -> str:
    worth, soft = total(values)
    return f"{worth}s" if soft else str(worth)
