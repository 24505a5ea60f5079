"""How much memory a rollout worker takes, and the cap above which it is recycled.

Environments may leak, natively and beyond the reach of Python: the process is the only thing that can be cleaned up.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import psutil

from protocol.errors import ConfigError

MB = 10**6

_log = logging.getLogger(__name__)


def own_memory_bytes() -> int:
    """Resident memory that this process shares with no other, in bytes.

    Pages of Ray's object store and of libraries are left out: they belong to the node, and no restart gives them back.
    """
    return unshared_bytes(psutil.Process().memory_info())


def unshared_bytes(memory: Any) -> int:
    """The same of what psutil says of a process's memory."""
    return memory.rss - memory.shared


class MemoryCap:
    """Names the workers that have grown too large.

    Args:
        max_memory_mb: Limit for one worker's process, in MB (10^6 bytes); None sets no limit.
    """

    def __init__(self, max_memory_mb: int | None) -> None:
        self._max_memory_mb = max_memory_mb
        self._last: frozenset[int] = frozenset()
        self._has_warned = False

    def check_fresh(self, worker: int, used_bytes: int) -> None:
        """Refuse a cap that no process can keep: every rollout would end with a restart that frees nothing.

        Raises:
            ConfigError: The worker is above the cap before it has taken a step.
        """
        if self._is_above(used_bytes):
            raise ConfigError(
                f"workers.max_memory_mb is {self._max_memory_mb}, but worker-{worker} takes {used_bytes / MB:.0f} MB "
                "before its first step: recycling it would free nothing.",
                "raise workers.max_memory_mb well above that, set it to null, or lower workers.envs_per_worker",
            )

    def outgrown(self, used_bytes: Mapping[int, int]) -> frozenset[int]:
        """Workers to recycle at the end of a rollout, out of those whose memory is given.

        A worker that is named twice in a row has outgrown the cap within a single rollout. That works, but it pays
        for a restart at every update, so it is said once.
        """
        above = frozenset(worker for worker, used in used_bytes.items() if self._is_above(used))
        again = above & self._last
        if again and not self._has_warned:
            worker = min(again)
            _log.warning(
                "worker-%d was recycled after two rollouts in a row: it took %.0f MB after a single one, and "
                "workers.max_memory_mb is %s. Raise that, or lower rollout.steps_per_update or "
                "workers.envs_per_worker; until then every update may pay for a restart.",
                worker,
                used_bytes[worker] / MB,
                self._max_memory_mb,
            )
            self._has_warned = True
        self._last = above
        return above

    def _is_above(self, used_bytes: int) -> bool:
        return self._max_memory_mb is not None and used_bytes > self._max_memory_mb * MB
