"""Blackjack once more, read off the published rules; slow, and sharing no code with the environment."""

from fractions import Fraction
from functools import cache
from itertools import product

DECK = {value: Fraction(4 if value == 10 else 1, 13) for value in range(1, 11)}


def worth(values):
    """The best total that does not exceed 21, over all numbers of aces that count 11; else the lowest total."""
    totals = [sum(values) + 10 * elevens for elevens in range(values.count(1) + 1)]
    return max([total for total in totals if total <= 21], default=min(totals))


def transition(player, dealer, deck, action):
    """One step with a known deck: new player, new dealer, reward, terminated."""
    if action == "hit":
        player = [*player, deck[0]]
        return player, dealer, (-1 if worth(player) > 21 else 0), worth(player) > 21
    dealer, deck = list(dealer), list(deck)
    while worth(dealer) < 17:
        dealer.append(deck.pop(0))
    if worth(dealer) > 21 or worth(dealer) < worth(player):
        return player, dealer, 1, True
    return player, dealer, (0 if worth(dealer) == worth(player) else -1), True


@cache
def dealer_results(hand):
    """Final total -> probability for a dealer's hand, given as a sorted tuple; 0 stands for a bust."""
    if worth(hand) >= 17:
        return {0 if worth(hand) > 21 else worth(hand): 1.0}
    results = {}
    for value, odds in DECK.items():
        for total, further in dealer_results(tuple(sorted((*hand, value)))).items():
            results[total] = results.get(total, 0) + float(odds) * further
    return results


def play_out(policy):
    """Exact win rate, draw rate and mean return of `policy(worth, soft, up) -> probability of a hit`."""

    @cache
    def outcome(lowest, ace, up):
        """Of a hand whose aces count 1 in `lowest`."""
        if lowest > 21:
            return 0.0, 0.0, 1.0
        soft = ace and lowest <= 11
        total = lowest + 10 if soft else lowest
        hit = policy(total, soft, up)
        shares = [0.0, 0.0, 0.0]
        for end, odds in dealer_results((up,)).items():
            shares[0 if end < total else 1 if end == total else 2] += (1 - hit) * odds
        for value, odds in DECK.items() if hit else ():
            further = outcome(lowest + value, ace or value == 1, up)
            shares = [share + hit * float(odds) * more for share, more in zip(shares, further, strict=True)]
        return tuple(shares)

    wins = draws = losses = 0.0
    for one, two, up in product(DECK, repeat=3):
        odds = float(DECK[one] * DECK[two] * DECK[up])
        shares = outcome(one + two, 1 in (one, two), up)
        wins, draws, losses = wins + odds * shares[0], draws + odds * shares[1], losses + odds * shares[2]
    return wins, draws, wins - losses
