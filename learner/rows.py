"""Trajectories of several Arrow batches as one table of rows, without a copy of token lists or frames.

Read by the update and by supervised fine-tuning, after admission; nothing is checked here again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from protocol.codec import TrajectoryBatch, decode_frames, list_rows
from protocol.trajectory import EndReason


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N rows of B complete trajectories, in order; every array list has one entry per row.

    Token arrays are views into the Arrow buffers (read-only).
    """

    prompts: list[np.ndarray]
    """int32 [P]: expanded prompt ids."""
    responses: list[np.ndarray]
    """int32 [T]: sampled ids."""
    behavior_log_probs: list[np.ndarray]
    """float32 [T]."""
    roles: list[np.ndarray]
    """int8 [T]: `protocol.trajectory.TokenRole`."""
    digests: list[tuple[bytes, ...]]
    """Frames of the prompt, in the order of their placeholders."""
    temperatures: np.ndarray
    """float32 [N]; 0 means greedy."""
    rewards: np.ndarray
    """float32 [N]."""
    policy_versions: np.ndarray
    """int32 [N]."""
    env_ids: list[str]
    tasks: list[str]
    """Sub-task; in a mixture it begins with the component's name."""
    episode_ids: list[str]
    """Which episode a row belongs to; one cut at a batch's end comes in several trajectories."""
    reset_seeds: np.ndarray
    """int64 [N]: equal seeds of one environment and task are equal initial states."""
    steps: np.ndarray
    """int32 [N]: index in the episode, from 0."""
    legal: np.ndarray
    """bool [N]: the action taken is the one that the policy named."""
    end_reasons: list[EndReason]
    """B entries: why each trajectory ends."""
    last_rows: np.ndarray
    """int64 [B]: index of the last row of each trajectory, rising."""
    bootstrap_prompts: list[np.ndarray | None]
    """B entries: expanded prompt of the real next state, int32 [P]; None where the trajectory terminated."""
    bootstrap_digests: list[tuple[bytes, ...]]
    """B entries: frames of the bootstrap prompt."""
    frames: Mapping[bytes, bytes]
    """Compressed frames by digest."""

    def __len__(self) -> int:
        """Number of rows, N."""
        return len(self.prompts)

    @property
    def components(self) -> list[str]:
        """Environment of each row, as metrics and lambda tell them apart: what its task says before the first "/"
        (the component of a mixture, else the sub-task), or its `env_id` where there is one task."""
        return [task.split("/")[0] or env_id for task, env_id in zip(self.tasks, self.env_ids, strict=True)]

    def state(self, row: int) -> tuple[bytes, tuple[bytes, ...]]:
        """What the policy saw in a row, to tell equal states from different ones: prompt ids and frames."""
        return self.prompts[row].tobytes(), self.digests[row]

    @property
    def lengths(self) -> np.ndarray:
        """Prompt plus response tokens of each row, int64 [N]."""
        pairs = zip(self.prompts, self.responses, strict=True)
        return np.array([len(p) + len(r) for p, r in pairs], dtype=np.int64)


def gather_rows(batches: Sequence[TrajectoryBatch]) -> Rows:
    """Join admitted batches; rows keep the order of the batches and of the rows inside them."""
    columns: dict[str, list] = {name: [] for name in (*_LISTS, *_DIGESTS, *_STRINGS)}
    scalars: dict[str, list[np.ndarray]] = {name: [] for name in _SCALARS}
    for batch in batches:
        for name in _LISTS:
            columns[name] += list_rows(batch.steps.column(name))
        for name in _DIGESTS:
            columns[name] += [tuple(row or ()) for row in batch.steps.column(name).to_pylist()]
        for name in _STRINGS:
            columns[name] += batch.steps.column(name).to_pylist()
        for name in _SCALARS:
            scalars[name].append(batch.steps.column(name).to_numpy(zero_copy_only=False))
    ends, open_end = columns["end_reason"], EndReason.NONE.value
    last_rows = np.flatnonzero([end != open_end for end in ends])
    joined = {name: np.concatenate(parts) if parts else np.empty(0, np.float32) for name, parts in scalars.items()}
    return Rows(
        prompts=columns["prompt_token_ids"],
        responses=columns["response_token_ids"],
        behavior_log_probs=columns["behavior_log_probs"],
        roles=columns["token_roles"],
        digests=columns["frame_digests"],
        temperatures=joined["temperature"],
        rewards=joined["reward"],
        policy_versions=joined["policy_version"],
        env_ids=columns["env_id"],
        tasks=columns["task"],
        episode_ids=columns["episode_id"],
        reset_seeds=joined["reset_seed"],
        steps=joined["step"],
        legal=joined["legal"],
        end_reasons=[EndReason(ends[i]) for i in last_rows],
        last_rows=last_rows,
        bootstrap_prompts=[columns["bootstrap_prompt_token_ids"][i] for i in last_rows],
        bootstrap_digests=[columns["bootstrap_frame_digests"][i] for i in last_rows],
        frames=decode_frames(*(batch.frames for batch in batches)),
    )


def trajectory_slices(last_rows: np.ndarray) -> list[slice]:
    """One slice of rows per trajectory."""
    edges = [0, *(int(i) + 1 for i in last_rows)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


_LISTS = (
    "prompt_token_ids",
    "response_token_ids",
    "behavior_log_probs",
    "token_roles",
    "bootstrap_prompt_token_ids",
)
_DIGESTS = ("frame_digests", "bootstrap_frame_digests")
_STRINGS = ("env_id", "task", "episode_id", "end_reason")
_SCALARS = ("temperature", "reward", "policy_version", "reset_seed", "step", "legal")
