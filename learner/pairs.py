"""Pairs of a right and a wrong response to the same state, made of sampled rows.

LLaVA-Reasoner (arXiv 2410.16198) samples several answers to a question, calls those right whose final answer equals
the known one, and pairs right with wrong ones. Here a question is a state (equal prompt tokens and pictures), and a
step of an episode has no known answer; what is right is told by what followed (see `PairConfig.rule`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from learner.outcomes import Outcomes
from learner.rows import Rows
from learner.stage_settings import PairConfig
from protocol.errors import TrajectoryError

_TIE = 1e-9
"""Averages closer than this are equal: they differ by rounding."""

RightAndWrong = tuple[list[int], list[int]]
"""Rows of one state whose response is right, and those whose response is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P pairs of rows."""

    chosen: np.ndarray
    """int64 [P]."""
    rejected: np.ndarray
    """int64 [P]."""
    states: int
    """How many states they belong to."""

    def __len__(self) -> int:
        """Number of pairs, P."""
        return len(self.chosen)


def build_pairs(rows: Rows, outcomes: Outcomes, config: PairConfig, *, gamma: float, seed: int) -> Pairs:
    """Pair right with wrong responses, state by state.

    Rows are drawn as often as they were sampled. Were every text to count once, the odd ones, of which a small model
    makes many, would outweigh what it usually says: chosen for their action, they would be learnt with it.

    Args:
        rows: N rows.
        outcomes: of the same rows.
        config: the rule, and how many.
        gamma: discount of the rewards to come.
        seed: of all draws.

    Raises:
        TrajectoryError: No state has both a right and a wrong response.
    """
    rng = np.random.default_rng(seed)
    judged = (
        _by_return(rows, outcomes, config.margin, gamma) if config.rule == "return" else _by_reading(rows, outcomes)
    )
    chosen: list[int] = []
    rejected: list[int] = []
    states = 0
    for right, wrong in judged:
        combinations = len(right) * len(wrong)
        states += combinations > 0
        for number in rng.permutation(combinations)[: config.pairs_per_state].tolist():
            chosen.append(right[number // len(wrong)])
            rejected.append(wrong[number % len(wrong)])
    if not chosen:
        raise TrajectoryError(
            f"{len(rows)} rows of {len(judged)} states hold no right response beside a wrong one to the same state "
            f"(rule {config.rule}, margin {config.margin:g}).",
            "sample more episodes of each initial state (samples.episodes, samples.group_size), at a higher "
            "temperature, or lower pairs.margin",
        )
    order = rng.permutation(len(chosen))[: config.max_pairs]
    return Pairs(np.array(chosen, dtype=np.int64)[order], np.array(rejected, dtype=np.int64)[order], states)


def _by_return(rows: Rows, outcomes: Outcomes, margin: float, gamma: float) -> list[RightAndWrong]:
    """Per state: rows of its best action, and rows of those that lie behind it by more than `margin`.

    A response that named no legal action is wrong: what followed it is the merit of a random action.
    """
    to_come = rewards_to_come(rows, outcomes, gamma)
    states: dict[object, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    illegal: dict[object, list[int]] = defaultdict(list)
    for row in np.flatnonzero(np.isfinite(to_come)).tolist():
        state = rows.state(row)
        if rows.legal[row]:
            states[state][outcomes.actions[row]].append(row)
        else:
            illegal[state].append(row)
    judged = []
    for state, actions in states.items():
        means = {action: float(to_come[own].mean()) for action, own in actions.items()}
        best = max(means.values())
        right = [row for action, own in actions.items() if best - means[action] <= _TIE for row in own]
        wrong = [row for action, own in actions.items() if best - means[action] > max(margin, _TIE) for row in own]
        judged.append((right, wrong + illegal[state]))
    return judged


def _by_reading(rows: Rows, outcomes: Outcomes) -> list[RightAndWrong]:
    """Per state: rows that read every field rightly, and those that did not."""
    states: dict[object, RightAndWrong] = defaultdict(lambda: ([], []))
    for row, right in enumerate(outcomes.recognized):
        if right is not None:
            states[rows.state(row)][0 if right and rows.legal[row] else 1].append(row)
    return list(states.values())


def rewards_to_come(rows: Rows, outcomes: Outcomes, gamma: float) -> np.ndarray:
    """Discounted sum of a row's reward and those that follow it in its episode, float64 [N].

    NaN in rows whose episode is not whole: what followed is not known.
    """
    sums = np.full(len(rows), np.nan)
    for episode in outcomes.episodes:
        running = 0.0
        for row, reward in zip(episode.rows[::-1].tolist(), episode.rewards[::-1].tolist(), strict=True):
            running = reward + gamma * running
            sums[row] = running
    return sums
