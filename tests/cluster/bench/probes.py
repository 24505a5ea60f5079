# pyright: reportMissingImports=false
# (alfworld is an optional extra: types are checked with and without it)
"""Functions that tests run in a process of their own."""

from __future__ import annotations

import os
import time

PREPARED: list[int] = []


def prepare() -> None:
    PREPARED.append(os.getpid())


def fail_to_prepare() -> None:
    raise OSError("no")


def prepared() -> list[int]:
    return PREPARED


def add(one: int, two: int) -> int:
    return one + two


def sleep() -> None:
    time.sleep(60)


def die() -> None:
    os._exit(3)


def refuse(error: Exception) -> None:
    raise error


def parses_are_remembered() -> tuple[bool, bool]:
    """Whether the engine of this process remembers templates and queries."""
    from textworld import logic
    from textworld.envs.pddl import textgen

    import envs.alfworld.engine  # noqa: F401 - its import puts the memory in place

    query = logic.Rule.parse_conjunctive_query
    return hasattr(textgen._parse_and_convert, "remembered"), hasattr(query, "cache_clear")
