"""Blackjack: stand or hit against a dealer who shows one card.

Rules, rewards and card odds follow gym_cards' Blackjack (RL4VLM, arXiv 2405.10292), which are those of Sutton
and Barto's example without a premium for naturals. The drawing is our own: the original lost the player's fifth
card beyond the picture's edge, here cards move together from the fifth on.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from envs.errors import ResetOptionsError
from envs.gym_cards.cards import Place, lay, lay_back, put_label, table
from envs.gym_cards.deck import SUITS
from envs.gym_cards.game import Game
from envs.gym_cards.options import check_keys

STAND, HIT = 0, 1

Card = tuple[int, str, str]
"""Value (1 for an ace), face ("A", "2" to "9", "J", "Q", "K") and suit letter."""

_VALUES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10)


def total(values: Sequence[int]) -> tuple[int, bool]:
    """What a hand is worth, and whether that is soft: an ace counts 11 where that does not exceed 21."""
    hard = sum(values)
    soft = 1 in values and hard + 10 <= 21
    return hard + 10 * soft, soft


class Blackjack(Game):
    """Actions: 0 stands, 1 hits. Cards come from an infinite deck; a ten is always a J, Q or K.

    Reward +1 for a win, 0 for a draw or a hit that goes on, -1 for a loss; the dealer draws to 17, soft or not.
    Info: "Player Card" and "Dealer Card", lists of (value, face, suit); the dealer's second card is hidden in
    the picture and must stay hidden from the policy. `reset(options={"player": [10, 6], "dealer": [9, 7],
    "deck": [5, 3]})` starts from those values; "deck" holds the cards drawn next and may be left out.
    """

    def __init__(self, render_mode: str | None = None) -> None:
        """Make a game."""
        super().__init__(actions=2, render_mode=render_mode)
        self._player: list[Card] = []
        self._dealer: list[Card] = []
        self._deck: list[int] = []

    def _deal(self) -> None:
        self._deck = []
        self._dealer = [self._draw(), self._draw()]
        self._player = [self._draw(), self._draw()]

    def _place(self, options: Mapping[str, Any]) -> None:
        check_keys(options, required=("player", "dealer"), optional=("deck",))
        player, dealer = _values(options, "player"), _values(options, "dealer")
        deck = _values(options, "deck") if "deck" in options else []
        if len(player) < 2 or sum(player) > 21:
            raise ResetOptionsError(
                f"reset option 'player' must hold two cards or more that do not exceed 21, not {player}"
            )
        if len(dealer) != 2:
            raise ResetOptionsError(f"reset option 'dealer' must hold two cards, not {dealer}")
        self._dealer = [self._dress(value) for value in dealer]
        self._player = [self._dress(value) for value in player]
        self._deck = deck

    def _play(self, action: int) -> tuple[float, bool, bool]:
        if action == HIT:
            self._player.append(self._draw())
            bust = _worth(self._player) > 21
            return (-1.0 if bust else 0.0), bust, False
        while _worth(self._dealer) < 17:
            self._dealer.append(self._draw())
        player, dealer = _worth(self._player), _worth(self._dealer)
        return float(np.sign(player - (0 if dealer > 21 else dealer))), True, False

    def _draw(self) -> Card:
        return self._dress(self._deck.pop(0) if self._deck else _VALUES[int(self.np_random.integers(13))])

    def _dress(self, value: int) -> Card:
        """A card of this value; which ten and which suit is chance."""
        face = "?A23456789"[value] if value < 10 else "JQK"[int(self.np_random.integers(3))]
        return value, face, SUITS[int(self.np_random.integers(4))]

    def _info(self) -> dict[str, Any]:
        return {"Dealer Card": list(self._dealer), "Player Card": list(self._player)}

    def _frame(self) -> np.ndarray:
        frame = table()
        put_label(frame, 5, 0, "Dealer", size=25)
        put_label(frame, 5, 124, "Player", size=25)
        lay(frame, UP_CARD, _code(self._dealer[0]))
        lay_back(frame, HOLE_CARD)
        for place, card in zip(player_places(len(self._player)), self._player, strict=False):
            lay(frame, place, _code(card))
        return frame


UP_CARD = Place(5, 25, 70, 98, rank=(16, 30, 64, 92), suit=(40, 107, 22))
HOLE_CARD = Place(78, 25, 70, 98, rank=(0, 0, 0, 0), suit=(0, 0, 0))

_RANK_LEFT = (18, 103, 155, 240)  # of each column, so that no rank crosses a border at x = 100 or 200
_RANK_WIDTH, _RANK_HEIGHT = 44, 46


@cache
def player_places(count: int) -> tuple[Place, ...]:
    """Where `count` player cards lie: four in a row; from five on two rows of lower cards; from nine on small ones.

    A card's rank stays where it is when the fifth card comes. 22 cards, the longest hand there can be, fit.
    """
    if count <= 4:
        return tuple(_place(column, 150, height=98, mark=32) for column in range(count))
    if count <= 8:
        return tuple(_place(index % 4, 150 + 75 * (index // 4), height=72, mark=18) for index in range(count))
    return tuple(_small_place(5 + 37 * (index % 8), 150 + 37 * (index // 8)) for index in range(count))


def _place(column: int, y: int, height: int, mark: int) -> Place:
    x, left, rank_bottom = 5 + 74 * column, _RANK_LEFT[column], y + 3 + _RANK_HEIGHT
    rank = (left, y + 3, left + _RANK_WIDTH, rank_bottom)
    return Place(x, y, 70, height, rank, suit=(x + 35, (rank_bottom + y + height) // 2, mark))


def _small_place(x: int, y: int) -> Place:
    return Place(x, y, 34, 35, rank=(x + 3, y + 5, x + 20, y + 30), suit=(x + 27, y + 17, 10))


def _worth(hand: Sequence[Card]) -> int:
    return total([value for value, _, _ in hand])[0]


def _code(card: Card) -> str:
    return card[2] + card[1]


def _values(options: Mapping[str, Any], key: str) -> list[int]:
    """The card values in `options[key]`."""
    found = options[key]
    if not isinstance(found, list | tuple):
        raise ResetOptionsError(f"reset option {key!r} must be a list of card values, not {found!r}")
    for value in found:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not 1 <= value <= 10:
            raise ResetOptionsError(f"reset option {key!r} holds {value!r}; card values are 1 (ace) to 10")
    return [int(value) for value in found]
