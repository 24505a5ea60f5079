"""Rejection sampling: of what a policy did, the rows that are worth imitating."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from learner.outcomes import Outcomes
from learner.rows import Rows
from learner.stage_settings import SelectionConfig
from protocol.errors import TrajectoryError


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The rows that are learnt from, and what they were chosen among."""

    index: np.ndarray
    """int64 [M]: rows, repeated where that balances the environments."""
    metrics: dict[str, float]


def select_rows(rows: Rows, outcomes: Outcomes, config: SelectionConfig, seed: int) -> Selection:
    """Choose rows of successful whole episodes.

    Rows whose text named no legal action are left out: what was then played is not what they say. All draws come from
    `seed`.

    Raises:
        TrajectoryError: Nothing is left.
    """
    rng = np.random.default_rng(seed)
    good = _successful(outcomes, config.minimum_return)
    kept = _thinned(rows, good, config, rng)
    if config.max_rows is not None and len(kept) > config.max_rows:
        kept = np.sort(rng.permutation(kept)[: config.max_rows])
    if not len(kept):
        raise TrajectoryError(
            f"None of the {len(outcomes.episodes)} whole episodes is worth imitating: {len(good)} of their "
            f"{len(rows)} rows belong to successes, and none of those names a legal action.",
            "sample more episodes (samples.episodes), lower selection.minimum_return, or begin with demonstrations",
        )
    index = _balanced(rows, kept) if config.balance else kept
    successes = sum(_is_success(outcomes, number, config.minimum_return) for number in range(len(outcomes.episodes)))
    return Selection(
        index,
        {
            "episodes": float(len(outcomes.episodes)),
            "successes": float(successes),
            "rows_sampled": float(len(rows)),
            "rows_of_successes": float(len(good)),
            "rows_kept": float(len(kept)),
        },
    )


def _is_success(outcomes: Outcomes, number: int, minimum_return: float | None) -> bool:
    if minimum_return is None:
        return outcomes.successes[number]
    return outcomes.episode_return(outcomes.episodes[number]) >= minimum_return


def _successful(outcomes: Outcomes, minimum_return: float | None) -> np.ndarray:
    """Rows of successful episodes, rising."""
    chosen = [e.rows for n, e in enumerate(outcomes.episodes) if _is_success(outcomes, n, minimum_return)]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def _thinned(rows: Rows, index: np.ndarray, config: SelectionConfig, rng: np.random.Generator) -> np.ndarray:
    """The legal ones of `index`, rising: of each state at most so many, and the different ones alone if asked for."""
    said: set[tuple[object, bytes]] = set()
    of_state: Counter[object] = Counter()
    kept = []
    for row in rng.permutation(index).tolist():
        state, response = rows.state(row), rows.responses[row].tobytes()
        full = config.rows_per_state is not None and of_state[state] >= config.rows_per_state
        if not rows.legal[row] or full or (config.distinct and (state, response) in said):
            continue
        said.add((state, response))
        of_state[state] += 1
        kept.append(row)
    return np.sort(np.array(kept, dtype=np.int64))


def _balanced(rows: Rows, index: np.ndarray) -> np.ndarray:
    """`index` with the rows of smaller environments repeated, until all have as many as the largest."""
    components, groups = rows.components, defaultdict(list)
    for row in index.tolist():
        groups[components[row]].append(row)
    largest = max(len(own) for own in groups.values())
    return np.concatenate([np.resize(np.array(own, dtype=np.int64), largest) for own in groups.values()])
