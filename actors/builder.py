"""Rows of one environment slot on their way to becoming trajectories.

The slot appends a row per step; the builder gives the last row its end and its bootstrap state, and hands over
closed rows with the frames they name. A row that was handed over is never touched again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from protocol.errors import TrajectoryError
from protocol.trajectory import EndReason, Frame, Step


@dataclass(frozen=True, slots=True)
class SlotIdentity:
    """What every row of a slot repeats, and the seed all its randomness comes from."""

    run_id: str
    worker_id: str
    slot: int
    seed: int

    def episode_id(self, episode: int) -> str:
        """Name of the slot's n-th episode, unique in a run."""
        return f"{self.worker_id}-{self.slot}-{episode}"


@dataclass(frozen=True, slots=True, eq=False)
class NextState:
    """The state a trajectory stops before: its expanded prompt, int32 [P], and its frames."""

    prompt_token_ids: np.ndarray
    frames: tuple[Frame, ...]


class TrajectoryBuilder:
    """Collects the rows of one slot, one open trajectory at a time."""

    def __init__(self) -> None:
        self._open: list[Step] = []
        self._closed: list[Step] = []
        self._frames: dict[bytes, Frame] = {}

    @property
    def is_open(self) -> bool:
        """Whether a trajectory with at least one row waits for its end."""
        return bool(self._open)

    @property
    def oldest_version(self) -> int | None:
        """Policy version of the open trajectory's first row; None without one."""
        return self._open[0].policy_version if self._open else None

    def append(self, step: Step, frames: tuple[Frame, ...]) -> None:
        """Add the next row of the open trajectory, with the frames its prompt shows."""
        self._open.append(step)
        self._keep(frames)

    def close(self, reason: EndReason, next_state: NextState | None = None) -> None:
        """End the open trajectory.

        Raises:
            TrajectoryError: There is no open trajectory, or the reason and the bootstrap state disagree.
        """
        if not self._open:
            raise TrajectoryError(f"No open trajectory to end with {reason.value!r}.")
        if (next_state is not None) != reason.needs_bootstrap:
            raise TrajectoryError(f"End reason {reason.value!r} and the bootstrap state disagree.")
        last = replace(self._open.pop(), end_reason=reason)
        if next_state is not None:
            last = replace(
                last,
                bootstrap_prompt_token_ids=next_state.prompt_token_ids,
                bootstrap_frame_digests=tuple(f.digest for f in next_state.frames),
            )
            self._keep(next_state.frames)
        self._closed += [*self._open, last]
        self._open = []

    def take(self, *, leave_open: bool = False) -> tuple[list[Step], list[Frame]]:
        """Hand over the closed trajectories, with the frames they name.

        Args:
            leave_open: An open trajectory stays here, to be handed over when it is closed.

        Raises:
            TrajectoryError: A trajectory is still open; it has to be closed or cut first.
        """
        if self._open and not leave_open:
            raise TrajectoryError(f"Trajectory {self._open[0].trajectory_id!r} is still open.", "close or cut it first")
        rows, frames = self._closed, self._frames
        self._closed, self._frames = [], _named(self._open, frames)
        return rows, list((_named(rows, frames) if self._open else frames).values())

    def _keep(self, frames: tuple[Frame, ...]) -> None:
        self._frames.update((f.digest, f) for f in frames)


def _named(rows: Sequence[Step], frames: Mapping[bytes, Frame]) -> dict[bytes, Frame]:
    """The frames that the rows name."""
    digests = (digest for row in rows for digest in (*row.frame_digests, *row.bootstrap_frame_digests))
    return {digest: frames[digest] for digest in digests}
