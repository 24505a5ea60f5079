"""The benchmarks by name; one is imported only when it runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from cluster.bench.result import Findings
from cluster.record.progress import RunProgress
from protocol.errors import ConfigError


@dataclass(frozen=True)
class BenchSettings:
    """How thoroughly to measure."""

    quick: bool = False
    """Few and short repeats: to see that the benchmark works, in seconds."""
    soak: bool = False
    """Also the parts that run for minutes to show what only time shows."""
    minutes: float = 30.0
    """How long a benchmark goes on that is nothing but such a part; a quick run does not ask."""


Measure = Callable[[BenchSettings, RunProgress], Findings]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that can be run by name."""

    name: str
    about: str
    module: str
    """Holds the function `measure`, a `Measure`."""
    uses_ray: bool = False
    """Whether it needs `cluster.bench.local_ray`; those come last, so that Ray's processes disturb no other."""
    is_long: bool = False
    """Whether it runs for `BenchSettings.minutes`."""

    def load(self) -> Measure:
        """The function that measures."""
        return import_module(self.module).measure


BENCHMARKS = (
    Benchmark("envs", "Cost of environments: reset, step, picture, prompt, memory, start-up", "cluster.bench.envs"),
    Benchmark(
        "learner", "An update and an SFT step, beside a plain transformers and peft loop", "cluster.bench.learner"
    ),
    Benchmark("loop", "Whole loops: the original's shape, lock-step, asynchronous", "cluster.bench.loop"),
    Benchmark(
        "transport",
        "Rows from worker to learner: Arrow by reference, pickled objects, memcpy",
        "cluster.bench.transport",
        uses_ray=True,
    ),
    Benchmark(
        "publish",
        "A new adapter from the last optimizer step to every server's word",
        "cluster.bench.publish",
        uses_ray=True,
    ),
    Benchmark(
        "scale", "1 to 64 rollout workers against an engine that only waits", "cluster.bench.scale", uses_ray=True
    ),
    Benchmark(
        "soak",
        "Memory of every process while a run goes on and on",
        "cluster.bench.soak",
        uses_ray=True,
        is_long=True,
    ),
)


def find(name: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        ConfigError: There is none.
    """
    by_name = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name.lower(), by_name, n=1)
    cure = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, by_name))}"
    raise ConfigError(f"There is no benchmark {name!r}.", cure)
