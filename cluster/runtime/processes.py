"""Processes of a run that end: on purpose, or to be rebuilt by Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from cluster.learners.group import SharedCall
from cluster.runtime.waiting import StopFlag, get, wait_for
from protocol.errors import LearnerDied, ServerDied

ASK_AGAIN_S = 0.25
"""Pause between two calls to an actor that is being rebuilt, in seconds."""


def end_actor(handle: Any) -> None:
    """End an actor's process at once, without a restart; harmless when it is gone already."""
    ray.kill(handle, no_restart=True)


def call_when_rebuilt(call: Callable[[], ray.ObjectRef], what: str, deadline_s: float) -> Any:
    """Result of an actor's method, called again for as long as Ray is rebuilding the actor.

    Args:
        call: Makes the call; must be harmless to repeat.
        what: What is waited for, for the error.
        deadline_s: How long the actor may take to come back, in seconds.

    Raises:
        ActorDiedError: The actor will not come back: its restart budget is spent.
        RayActorError, ServerDied: It has not come back in time.
        CroupierError: What the method itself raised.
    """
    attempts = Retrying(
        retry=retry_if_exception(_may_come_back),
        stop=stop_after_delay(deadline_s),
        wait=wait_fixed(ASK_AGAIN_S),
        reraise=True,
    )
    return attempts(lambda: get(call(), what, deadline_s))


def ask_learner(
    call: ray.ObjectRef | SharedCall,
    what: str,
    deadline_s: float,
    *,
    stop: StopFlag | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Any:
    """Result of one call to the learner, or of rank 0 of several; other arguments as for `wait_for`.

    Raises:
        LearnerDied: Its process ended.
        LearnerGroupBroken: Several learners lost each other.
        StopRequested, DeadlineExceeded, CroupierError: As `wait_for`.
    """
    if isinstance(call, SharedCall):
        return call.result(what, deadline_s, stop=stop, meanwhile=meanwhile)
    try:
        (value,) = wait_for([call], what, deadline_s, stop=stop, meanwhile=meanwhile)
    except RayActorError as error:
        raise LearnerDied(
            f"The learner's process ended while the run waited for {what}: {error}",
            "most often memory ran out: lower learner.compute.micro_batch_tokens, then resume the run",
        ) from error
    return value


def _may_come_back(error: BaseException) -> bool:
    # A server whose engine is dead answers ServerDied for the moment that its process still has.
    return isinstance(error, RayActorError | ServerDied) and not isinstance(error, ActorDiedError)
