"""Ending Ray actors: the one place that kills a process of a run."""

from __future__ import annotations

from typing import Any

import ray


def end_actor(handle: Any) -> None:
    """End an actor's process at once, without a restart; harmless when it is gone already."""
    ray.kill(handle, no_restart=True)
