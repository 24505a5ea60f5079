"""Which received trajectories are trained on, and a ledger that accounts for every single one.

At all times: received = trained + stale + invalid + duplicate + waiting, counted in trajectories.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import asdict, dataclass

import pyarrow as pa

from learner.images import FrameProcessor
from learner.screening import screen
from protocol.codec import TrajectoryBatch
from protocol.validation import AdmissionRules, Rejection


@dataclass(slots=True)
class Ledger:
    """Trajectories by fate."""

    received: int = 0
    trained: int = 0
    stale: int = 0
    invalid: int = 0
    duplicate: int = 0
    waiting: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the invariant holds."""
        return self.received == self.trained + self.stale + self.invalid + self.duplicate + self.waiting


class Admission:
    """The learner's inbox.

    A trajectory is checked on arrival (invalid, duplicate, stale) and waits until an update takes it; it may
    become stale while it waits.

    Args:
        images: counts the image tokens of frames.
        banned_token_ids: ids that cannot have been sampled.
        max_staleness: versions that the oldest row of a trajectory may lie behind the current one.
        kept_rejections: refused trajectories to keep for inspection.
    """

    def __init__(
        self,
        images: FrameProcessor,
        banned_token_ids: Collection[int],
        *,
        max_staleness: int,
        kept_rejections: int,
    ) -> None:
        self.ledger = Ledger()
        self.rejections: deque[Rejection] = deque(maxlen=kept_rejections)
        """The last refused trajectories, oldest first."""
        self._images = images
        self._banned = banned_token_ids
        self._max_staleness = max_staleness
        self._waiting: list[_Waiting] = []
        self._taken = 0  # how many of `_waiting`, from the front, the running update holds
        self._seen: dict[str, int] = {}

    def receive(self, batch: TrajectoryBatch, rules: AdmissionRules, policy_version: int) -> list[Rejection]:
        """Take in one delivery; returns what was refused as invalid, with reasons.

        Args:
            batch: as it came off the wire.
            rules: what a row must agree with.
            policy_version: the learner's current version.
        """
        versions = _versions(batch.steps)
        rejected = {r.trajectory_id: r for r in screen(batch, rules, self._images, self._banned)}
        self.ledger.received += len(versions)
        self.ledger.invalid += len(rejected)
        self.rejections.extend(rejected.values())
        accepted: dict[str, int] = {}
        for trajectory_id, version in versions.items():
            if trajectory_id in rejected:
                continue
            if trajectory_id in self._seen:
                self.ledger.duplicate += 1
            elif policy_version - version > self._max_staleness:
                self.ledger.stale += 1
            else:
                accepted[trajectory_id] = version
        self._seen |= accepted
        self.ledger.waiting += len(accepted)
        if accepted:
            self._waiting.append(_Waiting(_select(batch, accepted.keys()), accepted))
        return list(rejected.values())

    def take(self, policy_version: int) -> list[TrajectoryBatch]:
        """Everything that waits and is still fresh enough; it goes on waiting until `mark_trained`.

        Trajectories that have become stale meanwhile are dropped and counted.
        """
        oldest = policy_version - self._max_staleness
        kept: list[_Waiting] = []
        for item in self._waiting:
            fresh = {t: v for t, v in item.versions.items() if v >= oldest}
            stale = len(item.versions) - len(fresh)
            self.ledger.stale += stale
            self.ledger.waiting -= stale
            if fresh:
                kept.append(item if not stale else _Waiting(_select(item.batch, fresh.keys()), fresh))
        self._waiting = kept
        self._taken = len(kept)
        # An id this old would be refused as stale before its repetition mattered.
        self._seen = {t: v for t, v in self._seen.items() if v >= oldest}
        return [item.batch for item in kept]

    def mark_trained(self) -> int:
        """Count what `take` handed out last as trained, and let go of it; returns how many trajectories that
        were."""
        count = sum(len(item.versions) for item in self._waiting[: self._taken])
        self.ledger.trained += count
        self.ledger.waiting -= count
        self._waiting = self._waiting[self._taken :]
        self._taken = 0
        return count

    def state(self) -> dict:
        """JSON-able state for a checkpoint.

        Waiting trajectories are not part of it: they count as never received, and may be delivered again.
        """
        counts = asdict(self.ledger)
        counts["received"] -= counts.pop("waiting")
        waiting = {t for item in self._waiting for t in item.versions}
        return {"ledger": counts, "seen": {t: v for t, v in self._seen.items() if t not in waiting}}

    def load_state(self, state: dict) -> None:
        """Take up the state of a checkpoint; whatever waits here is forgotten."""
        self.ledger = Ledger(**state["ledger"])
        self._seen = dict(state["seen"])
        self._waiting = []
        self._taken = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    batch: TrajectoryBatch
    versions: dict[str, int]
    """Oldest policy version of each trajectory of the batch."""


def _versions(steps: pa.RecordBatch) -> dict[str, int]:
    """Oldest policy version of each trajectory, in order of appearance."""
    oldest: dict[str, int] = {}
    ids, versions = (
        steps.column("trajectory_id").to_pylist(),
        steps.column("policy_version").to_numpy().tolist(),
    )
    for trajectory_id, version in zip(ids, versions, strict=True):
        oldest[trajectory_id] = min(version, oldest.setdefault(trajectory_id, version))
    return oldest


def _select(batch: TrajectoryBatch, trajectory_ids: Collection[str]) -> TrajectoryBatch:
    """The given trajectories of a batch, with the frames they name."""
    steps = batch.steps
    keep = [t in trajectory_ids for t in steps.column("trajectory_id").to_pylist()]
    if all(keep):
        return batch
    steps = steps.filter(pa.array(keep))
    named = {d for name in ("frame_digests", "bootstrap_frame_digests") for d in _flat(steps.column(name))}
    frames = batch.frames.filter(pa.array([d in named for d in batch.frames.column("digest").to_pylist()]))
    return TrajectoryBatch(steps, frames)


def _flat(column: pa.ListArray) -> list[bytes]:
    return column.flatten().to_pylist()
