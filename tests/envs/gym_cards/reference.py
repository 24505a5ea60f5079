"""NumberLine once more, as tables read off the published rules; shares no code with the environment."""

from fractions import Fraction

POSITIONS = range(6)
LAST_STEP = 10
NEIGHBOUR = {"-": (0, 0, 1, 2, 3, 4), "+": (1, 2, 3, 4, 5, 5)}
ACTION = {"-": 0, "+": 1}
STATES = [(target, current) for target in POSITIONS for current in POSITIONS if target != current]


def transition(target, current, steps, name):
    """The move `name` after `steps` moves: new position, reward, terminated, truncated."""
    new = NEIGHBOUR[name][current]
    if new == target:
        return new, 1, True, False
    gap_before = max(target, current) - min(target, current)
    gap_after = max(target, new) - min(target, new)
    return new, (0 if gap_after < gap_before else -1), False, steps + 1 == LAST_STEP


def initial_distribution():
    """(target, current) -> exact probability; equal draws move the target as on a ring of five."""
    odds = dict.fromkeys(STATES, Fraction(0))
    repaired = {0: 1, 1: 2, 2: 3, 3: 4, 4: 0, 5: 1}
    for current in POSITIONS:
        for drawn in POSITIONS:
            odds[repaired[current] if drawn == current else drawn, current] += Fraction(1, 36)
    return odds
