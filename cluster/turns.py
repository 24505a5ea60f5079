"""Whose turn it is on a GPU that engines and learner share: both at once, or one while the other is out of the way.

The driver says before each thing it does who is going to work; everything about giving memory back and taking it again
is in here, and nothing of it in a run that does not alternate.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from cluster.runtime.processes import ask_learner
from cluster.servers.pool import ServerPool


class Turns(Protocol):
    """What the driver announces."""

    def of_engines(self) -> None:
        """Engines are going to answer: rollouts, evaluations, canaries."""
        ...

    def of_learner(self) -> None:
        """The learner is going to compute: updates, exports, reading a checkpoint."""
        ...

    def metrics(self) -> dict[str, float]:
        """What the turns of this update cost."""
        ...


class SideBySide:
    """Both keep their memory, on devices of their own or on shares of one."""

    def of_engines(self) -> None:
        """Nobody has to make room."""

    def of_learner(self) -> None:
        """Nobody has to make room."""

    def metrics(self) -> dict[str, float]:
        """Nothing."""
        return {}


class Alternation:
    """Whoever has no turn keeps its memory in that of the host; only then does the other one take its own.

    It begins with the learner's turn: engines sleep, and the learner has just loaded its model.

    Args:
        learner: Ray actor of `LearnerActor`, its policy loaded.
        servers: asleep.
        timeout_s: longest wait for the learner to move its weights, in seconds.
    """

    def __init__(self, learner: Any, servers: ServerPool, timeout_s: float) -> None:
        self._learner = learner
        self._servers = servers
        self._timeout_s = timeout_s
        self._turn: str | None = "learner"
        """None: a change failed half-way; the next announcement begins it again."""
        self._spent_s = 0.0

    def of_engines(self) -> None:
        """The learner leaves, then the engines wake and prove that they are what they were.

        Raises:
            AdapterRejected: An engine's weights or adapters have changed in its sleep.
            DeadlineExceeded, LearnerDied, ServerDied: Somebody is late, or gone.
        """
        if self._turn == "engines":
            return
        began, self._turn = time.monotonic(), None
        self._ask(self._learner.offload, "the learner to give its GPU memory back")
        self._servers.wake()
        self._turn = "engines"
        self._spent_s += time.monotonic() - began

    def of_learner(self) -> None:
        """The engines finish what they answer and sleep, then the learner comes back.

        Raises:
            DeadlineExceeded, LearnerDied, ServerDied: Somebody is late, or gone.
        """
        if self._turn == "learner":
            return
        began, self._turn = time.monotonic(), None
        self._servers.sleep()
        self._ask(self._learner.reload, "the learner to take its GPU memory again")
        self._turn = "learner"
        self._spent_s += time.monotonic() - began

    def metrics(self) -> dict[str, float]:
        """Seconds that went into changes of turn since the last call."""
        spent_s, self._spent_s = self._spent_s, 0.0
        return {"time/turns_s": spent_s}

    def _ask(self, method: Any, what: str) -> None:
        ask_learner(method.remote(), what, self._timeout_s)
