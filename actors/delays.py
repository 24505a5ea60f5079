"""Why an engine was without a request: the causes, and what a request tells of the time before it was sent."""

from __future__ import annotations

from typing import NamedTuple

LEARNER, PUBLISHING, WAKING, ENVIRONMENTS, TRANSPORT, OTHER = (
    "learner",
    "publishing",
    "waking",
    "environments",
    "transport",
    "other",
)

CAUSES: tuple[str, ...] = (LEARNER, PUBLISHING, WAKING, ENVIRONMENTS, TRANSPORT, OTHER)
"""What an engine can be idle for, as far as the engine itself can tell; explained in `docs/asynchrony.md`."""


class Delays(NamedTuple):
    """What passed between the last answer that a request's sender had and the request, in this order.

    Only durations, in seconds: the clocks of sender and server may belong to two nodes, and are never compared.
    """

    way_s: float = 0.0
    """What the last answer's round trip took beyond the server's own time and the worker's environments."""
    step_s: float = 0.0
    """Environment work: the worker's before the answer was looked at, and the sender's own from then on."""
    order_s: float = 0.0
    """The sender had no leave to play on."""
    begin_s: float = 0.0
    """Environment work since it has leave again, up to the finished request."""

    def kept(self, seconds: float) -> Delays:
        """The same of a request that left so much later, for its worker's environments were at work."""
        return self._replace(begin_s=self.begin_s + seconds)

    def backwards(self) -> tuple[tuple[str, float], ...]:
        """Causes and their seconds from the moment in which the request arrives: half a round trip is the request's
        own way, the other half was the last answer's."""
        half_s = self.way_s / 2
        return (
            (TRANSPORT, half_s),
            (ENVIRONMENTS, self.begin_s),
            (LEARNER, self.order_s),
            (ENVIRONMENTS, self.step_s),
            (TRANSPORT, half_s),
        )


UNTOLD = Delays()
"""Of a request whose sender tells nothing."""
