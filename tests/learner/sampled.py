"""Sampled rows of small episodes, for tests of what stages choose among them."""

import json
from dataclasses import replace

import numpy as np

from learner.outcomes import Outcomes, read_outcomes
from learner.rows import Rows, gather_rows
from protocol.codec import TrajectoryBatch
from protocol.trajectory import EndReason, ParseStatus, Step


def step(world, state, action, reward, *, text=None, recognized=None, legal=True, **changes) -> Step:
    """A step that took `action`; its response is `text` (by default one of this state and action alone)."""
    said = f"{state[0]}{state[1]} {action}" if text is None else text
    ids = np.array(world.tokenizer.encode(said, add_special_tokens=False), dtype=np.int32)
    info = {"truth": {}, "recognized": recognized or {}}
    made = world.step(
        state=state,
        response_token_ids=ids,
        behavior_log_probs=np.full(len(ids), -0.25, np.float32),
        response_text=said,
        action=action,
        reward=reward,
        legal=legal,
        parse_status=ParseStatus.OK if legal else ParseStatus.UNKNOWN_ACTION,
        info=json.dumps(info | changes.pop("told", {})),
    )
    return replace(made, **changes)


def episode(name: str, *steps: Step, end=EndReason.TERMINATED, **last) -> list[Step]:
    """The steps as one whole episode called `name`; `last` changes the final one."""
    numbered = [
        replace(own, trajectory_id=name, episode_id=name, step=number, terminated=False, end_reason=EndReason.NONE)
        for number, own in enumerate(steps)
    ]
    numbered[-1] = replace(numbered[-1], terminated=end is EndReason.TERMINATED, end_reason=end, **last)
    return numbered


def collected(world, *episodes: list[Step]) -> tuple[list[TrajectoryBatch], Rows, Outcomes]:
    """The episodes as one batch, its rows and their outcomes."""
    batches = [world.batch([own for steps in episodes for own in steps])]
    rows = gather_rows(batches)
    return batches, rows, read_outcomes(batches, rows)
