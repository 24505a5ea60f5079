"""Signs of a collapse of thinking, measured beside the update: thoughts that repeat, thoughts that ignore the picture.

Reported collapses of RL on agents that think (GTR, arXiv 2503.08525) show as one thought for many states, written
whatever the picture shows, while rewards may still look well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from learner.policy import Policy
from learner.preparation import sampled_log_probs
from learner.rows import Rows
from protocol.trajectory import TokenRole


def duplicate_thoughts(rows: Rows) -> float | None:
    """Share of the rows with a thought whose thought tokens stand, in the same order, under another state too.

    None where no row has a thought.
    """
    states: dict[bytes, set[tuple[bytes, tuple[bytes, ...]]]] = {}
    thoughts = [_thought(rows, row) for row in range(len(rows))]
    for row, thought in enumerate(thoughts):
        states.setdefault(thought, set()).add(rows.state(row))
    written = [thought for thought in thoughts if thought]
    if not written:
        return None
    return sum(len(states[thought]) > 1 for thought in written) / len(written)


def image_dependence(
    policy: Policy, rows: Rows, *, sample_rows: int, token_budget: int, generator: torch.Generator
) -> dict[str, float]:
    """Shuffle test: how much log-prob the sampled tokens lose when rows are shown each other's pictures.

    Frames are passed on among rows whose pictures take equal numbers of tokens, so that every prompt stays as long
    as it was. 0 means that the picture makes no difference. Two passes without gradient over the sampled rows.

    Args:
        policy: as it is.
        rows: N rows.
        sample_rows: rows to draw from them.
        token_budget: bound on the padded tokens of one forward pass.
        generator: draws the rows and who gets whose picture.

    Returns:
        `thought_image_dependence` and `action_image_dependence`, mean drop in nats per token of that span, and
        `image_dependence_rows`, the rows that got another picture; empty where there are none.
    """
    chosen = torch.randperm(len(rows), generator=generator)[:sample_rows].tolist()
    shuffled = replace(rows, digests=_passed_on(policy, rows, chosen))
    index = np.array([row for row in chosen if shuffled.digests[row] != rows.digests[row]], dtype=np.int64)
    if not len(index):
        return {}
    own = sampled_log_probs(policy, rows, index, token_budget)
    other = sampled_log_probs(policy, shuffled, index, token_budget)
    found = {"image_dependence_rows": float(len(index))}
    for name, role in (("thought", TokenRole.THOUGHT), ("action", TokenRole.ACTION)):
        drops = [(_known(own[i]) - _known(other[i]))[rows.roles[i] == role] for i in index]
        if sum(len(drop) for drop in drops):
            found[f"{name}_image_dependence"] = float(np.concatenate(drops).mean())
    return found


def _thought(rows: Rows, row: int) -> bytes:
    return rows.responses[row][rows.roles[row] == TokenRole.THOUGHT].tobytes()


def _passed_on(policy: Policy, rows: Rows, chosen: Sequence[int]) -> list[tuple[bytes, ...]]:
    """Frames of all rows, where each chosen one has those of the next of its kind."""
    images = policy.backbone.images
    kinds: dict[tuple[int, ...], list[int]] = {}
    for row in chosen:
        kind = tuple(images.inputs(digest, rows.frames).image_tokens for digest in rows.digests[row])
        kinds.setdefault(kind, []).append(row)
    digests = list(rows.digests)
    for members in kinds.values():
        for row, giver in zip(members, [*members[1:], members[0]], strict=True):
            digests[row] = rows.digests[giver]
    return digests


def _known(log_probs: np.ndarray | None) -> np.ndarray:
    assert log_probs is not None, "the row was among those scored"
    return log_probs
