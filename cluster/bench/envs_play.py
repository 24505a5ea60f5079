"""Playing environments by the watch: what the `envs` benchmark runs, in its own process or in a new one.

Imports little beside the environments, so that a process that measures its own start and memory is not made larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

import envs
from actors.parsing import parse_action, recognized
from cluster.bench.original_cards import Kind
from cluster.bench.timing import Stopwatch, clock
from envs.base import TaskAdapter

NOISE = 0.25
"""Share of random actions of the expert that plays: his own game, with detours."""

QUERY, PICTURE, EXPERT, PARSE = ASKED = ("prompt and picture", "picture alone", "expert", "parse")
"""What `play_expert` times."""

Trace = list[tuple[Kind, dict[str, Any]]]
"""States in the order in which they were met, and how."""


def timed_walk(env: gymnasium.Env, adapter: TaskAdapter, seed: int, steps: int) -> tuple[Stopwatch, Stopwatch, Trace]:
    """Play `steps` random steps; returns the time of resets, the time of steps, and the states."""
    rng = np.random.default_rng(seed)
    on_reset, on_step, trace = Stopwatch(), Stopwatch(), []
    with on_reset:
        _, info = env.reset(seed=seed)
    trace.append(("reset", info))
    for _ in range(steps):
        action = adapter.env_action(_any(adapter, info, rng), info)
        with on_step:
            _, _, terminated, truncated, info = env.step(action)
        trace.append(("step", info))
        if terminated or truncated:
            with on_reset:
                _, info = env.reset()
            trace.append(("reset", info))
    return on_reset, on_step, trace


def play(env: gymnasium.Env, adapter: TaskAdapter, seed: int, steps: int) -> float:
    """CPU seconds of `steps` random steps through the adapter, resets included."""
    rng = np.random.default_rng(seed)
    began_s = clock()
    _, info = env.reset(seed=seed)
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(adapter.env_action(_any(adapter, info, rng), info))
        if terminated or truncated:
            _, info = env.reset()
    return clock() - began_s


def first_resets(env_id: str, count: int) -> float:
    """CPU milliseconds of each of the first resets of an environment, on average; meant for a new process."""
    env, _ = envs.make(env_id)
    began_s = clock()
    for number in range(count):
        env.reset(seed=number)
    return 1e3 * (clock() - began_s) / count


def play_expert(env: gymnasium.Env, adapter: TaskAdapter, seed: int, steps: int) -> dict[str, float]:
    """Let the task's expert play; CPU microseconds per step of everything a worker asks the adapter and the parser.

    Returns:
        "prompt and picture": the whole query, "picture alone": its picture once more, which for most tasks is the
        observation itself; "expert": the scripted response; "parse": finding its action, judging its perception
        fields, naming the env's action. Each holds about a microsecond of measuring.
    """
    rng = np.random.default_rng(seed)
    watches = {what: Stopwatch() for what in ASKED}
    observation, info = env.reset(seed=seed)
    for _ in range(steps):
        with watches[QUERY]:
            adapter.query(observation, info)
        with watches[PICTURE]:
            adapter.picture(observation, info)
        with watches[EXPERT]:
            text = adapter.expert(info, rng, NOISE)
        with watches[PARSE]:
            legal = adapter.legal_actions(info)
            name = parse_action(text, adapter.action_names or legal, legal).name
            recognized(text, adapter.recognition(info))
            assert name is not None, f"the expert of {adapter.env_id} said {text!r}"
            action = adapter.env_action(name, info)
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            observation, info = env.reset()
    return {what: 1e6 * watch.mean_s for what, watch in watches.items()}


def _any(adapter: TaskAdapter, info: Mapping[str, Any], rng: np.random.Generator) -> str:
    legal = adapter.legal_actions(info)
    return legal[int(rng.integers(len(legal)))]
