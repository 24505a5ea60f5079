"""What a sweep runs: the combinations of the values of its keys, each with a name of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.errors import ConfigError

SEED = "seed"
"""The key whose values are repeats of one variant, not variants."""

_APART = re.compile(r",(?![^\[{]*[\]}])")
"""A comma that is not inside brackets."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One run of a sweep."""

    settings: tuple[tuple[str, str], ...]
    """Keys and values, in the order in which they were asked for; the seed is not among them."""
    seed: str | None = None

    @property
    def label(self) -> str:
        """What tells it from the others, but for the seed."""
        return ", ".join(f"{key}={value}" for key, value in self.settings) or "as configured"

    @property
    def overrides(self) -> list[str]:
        """As the command line takes them."""
        own = [f"{key}={value}" for key, value in self.settings]
        return own if self.seed is None else [*own, f"{SEED}={self.seed}"]

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in self.settings]
        parts += [] if self.seed is None else [f"seed-{self.seed}"]
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(parts)) or "run"


def expand(axes: Sequence[str]) -> list[Variant]:
    """All combinations of `key=value,value,...`.

    Raises:
        ConfigError: An axis has no value, or a key comes twice.
    """
    values: dict[str, list[str]] = {}
    for axis in axes:
        key, _, listed = axis.partition("=")
        if not key or not listed:
            raise ConfigError(f"--vary {axis!r} is not of the form key=value,value.", "write e.g. --vary seed=0,1,2")
        if key in values:
            raise ConfigError(f"--vary {key} comes twice.", "give all its values at once, with commas between")
        values[key] = [value.strip() for value in _APART.split(listed)]
    seeds: list[str | None] = [*values.pop(SEED, [])] or [None]
    combined = itertools.product(*([(key, value) for value in own] for key, own in values.items()))
    variants = [Variant(tuple(settings), seed) for settings in combined for seed in seeds]
    names = [variant.folder for variant in variants]
    if len(set(names)) < len(names):
        raise ConfigError("Two variants would share a run directory.", "give values that differ in letters or digits")
    return variants
