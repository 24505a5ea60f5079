"""The learner as the driver sees it: one Ray actor, or several that train together and are spoken to as one.

A group has the methods of `LearnerActor`. What every process has to take part in is called on all of them, with one
result, that of rank 0; everything else rank 0 does alone. The first process to die takes the group with it: what the
others hold is of no use without it, and the run goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayActorError

from cluster.config.processes import LearnerPartConfig
from cluster.learners.actor import spawn_learner
from cluster.runtime.waiting import wait_for
from protocol.errors import CroupierError, LearnerDied, LearnerGroupBroken

TOGETHER = frozenset({"run_sft", "start", "update", "package", "save", "load", "offload", "reload", "let_go", "free"})
"""Methods of `LearnerActor` that every process of a group runs."""

OBITUARY_S = 10.0
"""How long a failed call waits for the news of which process has died, in seconds."""

FETCH_S = 5.0
"""How long the small result of a finished call may take to arrive, in seconds."""


@contextmanager
def learner_processes(
    config: LearnerPartConfig, options: Sequence[dict[str, Any]], start_timeout_s: float
) -> Iterator[Any]:
    """Start one learner, or a group of several; all end with the block.

    Args:
        config: device, and deadline of the group's operations.
        options: of each process's Ray actor.
        start_timeout_s: longest wait for all processes to meet, in seconds.

    Raises:
        LearnerDied, LearnerGroupBroken, DeadlineExceeded: They did not meet.
    """
    actors = [spawn_learner(**own) for own in options]
    try:
        if len(actors) == 1:
            yield actors[0]
            return
        group = LearnerGroup(actors)
        group.meet(config.compute.device, start_timeout_s, config.collective_timeout_s)
        yield group
    finally:
        for actor in actors:
            ray.kill(actor, no_restart=True)


class LearnerGroup:
    """Several `LearnerActor`s, in the order of their ranks."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = tuple(actors)
        self._broken: CroupierError | None = None

    def __getattr__(self, name: str) -> Any:
        """A method of the actors, to be called as Ray's are: `group.update.remote(...)`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return _SharedMethod(self, name) if name in TOGETHER else getattr(self.actors[0], name)

    def meet(self, device: str, start_timeout_s: float, collective_timeout_s: float) -> None:
        """Let the processes find each other; arguments and errors as in `learner_processes`."""
        what = f"{len(self.actors)} learners to find each other"
        # A reference that has no value yet: the others wait for rank 0 to listen.
        address = self.actors[0].open_meeting.remote(start_timeout_s)
        joined = [
            actor.join.remote(address, rank, len(self.actors), device, collective_timeout_s)
            for rank, actor in enumerate(self.actors)
        ]
        SharedCall(self, tuple(joined)).result(what, start_timeout_s)

    def call(self, name: str, arguments: Sequence[Any], named: Mapping[str, Any], returns: int) -> Any:
        """Call a method of all actors; each argument is stored once, not once per actor."""
        if self._broken is not None:
            raise self._broken
        stored = [ray.put(argument) for argument in arguments]
        methods = [getattr(actor, name).options(num_returns=returns) for actor in self.actors]
        refs = [method.remote(*stored, **named) for method in methods]
        if returns == 1:
            return SharedCall(self, tuple(refs))
        first, *rest = zip(*refs, strict=True)
        return [SharedCall(self, first), *(of_all[0] for of_all in rest)]

    def bury(self, error: CroupierError) -> None:
        """From now on every call fails with this error."""
        self._broken = error


@dataclass(frozen=True, slots=True)
class _SharedMethod:
    """Looks like the method of a Ray actor."""

    group: LearnerGroup
    name: str
    returns: int = 1

    def options(self, *, num_returns: int) -> _SharedMethod:
        """The same method with several results; only the first of them is awaited in every process."""
        return replace(self, returns=num_returns)

    def remote(self, *arguments: Any, **named: Any) -> Any:
        """Call it on every actor."""
        return self.group.call(self.name, arguments, named, self.returns)


@dataclass(frozen=True, slots=True)
class SharedCall:
    """One call that every process of a group is busy with."""

    group: LearnerGroup
    refs: tuple[ray.ObjectRef, ...]
    """By rank."""

    def result(self, what: str, deadline_s: float, **waiting: Any) -> Any:
        """Rank 0's result once all are done; arguments as for `wait_for`.

        Raises:
            LearnerDied: A process ended; the message names its rank.
            LearnerGroupBroken: The processes lost each other.
            StopRequested, DeadlineExceeded, CroupierError: As `wait_for`.
        """
        try:
            return wait_for(self.refs, what, deadline_s, **waiting)[0]
        except Exception as error:
            told = self._cause(what, error)
            if told is None:
                raise
            self.group.bury(told)
            raise told from error

    def _cause(self, what: str, error: Exception) -> CroupierError | None:
        """What ended the group, if this failed wait was its end.

        Whoever outlives another fails too, and often first: its connection breaks. So the first error to arrive is
        not the one to tell.
        """
        if "failed" not in (fates := self._fates(0.0)) and "dead" not in fates:
            return None  # the wait was broken off; the processes go on
        fates = self._fates(OBITUARY_S)
        if "dead" in fates:
            return LearnerDied(
                f"The process of learner {_ranks(fates, 'dead')} ended while the run waited for {what}.",
                "most often memory ran out: lower learner.compute.micro_batch_tokens, then resume the run",
            )
        if isinstance(error, LearnerGroupBroken):
            return error
        if "running" in fates:  # and waits for those that failed
            return LearnerGroupBroken(
                f"Learner {_ranks(fates, 'failed')} failed while the run waited for {what}: {error}"
            )
        return None  # all failed alike, and are still in step

    def _fates(self, patience_s: float) -> list[str]:
        """How the call stands in each process: running, done, failed or dead."""
        done, _ = ray.wait(list(self.refs), num_returns=len(self.refs), timeout=patience_s, fetch_local=False)
        return [_fate(ref) if ref in done else "running" for ref in self.refs]


def _fate(ref: ray.ObjectRef) -> str:
    try:
        ray.get(ref, timeout=FETCH_S)
    except RayActorError:
        return "dead"
    except Exception:
        return "failed"
    return "done"


def _ranks(fates: Sequence[str], fate: str) -> str:
    ranks = [str(rank) for rank, own in enumerate(fates) if own == fate]
    return f"{' and '.join(ranks)} of {len(fates)}"
