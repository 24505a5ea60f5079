"""Step an environment by hand, by its expert, at random or by a trained run, and show the dialogue."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape

from actors.parsing import parse_action
from cluster.config import EnvConfig
from cluster.model_stage import env_maker
from envs.base import TaskAdapter
from protocol.errors import ConfigError

Respond = Callable[[TaskAdapter, Any, dict[str, Any]], str]
"""Adapter, observation and info to the text of a response."""


def play_episodes(env_id: str, policy: str, *, episodes: int, seed: int, out: Path | None, console: Console) -> None:
    """Play whole episodes and print prompt, response, action and reward of every step.

    Args:
        env_id: Registered id, or `module:EnvClass`.
        policy: `human`, `expert`, `random`, or a run directory.
        episodes: How many.
        seed: Of the first episode; the following count up.
        out: Folder for the frames as PNG; None saves none.
        console: Where to print.
    """
    env, adapter = env_maker(EnvConfig(id=env_id))()
    rng = np.random.default_rng(seed)
    with ExitStack() as resources:
        resources.callback(env.close)
        respond = _policy(policy, env_id, rng, console, resources)
        for episode in range(episodes):
            observation, info = env.reset(seed=seed + episode)
            console.print(f"[bold]episode {episode}[/] (seed {seed + episode})")
            console.print(f"[dim]{escape(adapter.prompt(observation, info))}[/]")
            total, step, done = 0.0, 0, False
            while not done:
                _save_frame(adapter.image(observation, info), out, f"episode{episode:03d}-step{step:03d}.png", console)
                text = respond(adapter, observation, info)
                legal = list(adapter.legal_actions(info))
                parsed = parse_action(text, adapter.action_names or legal, legal)
                action = parsed.name if parsed.name in legal else legal[int(rng.integers(len(legal)))]
                observation, reward, terminated, truncated, info = env.step(adapter.env_action(str(action), info))
                total, step, done = total + float(reward), step + 1, terminated or truncated
                console.print(f"  {escape(text)}")
                console.print(f"  -> {escape(repr(action))} ({parsed.status.value}), reward {float(reward):+g}")
            _save_frame(adapter.image(observation, info), out, f"episode{episode:03d}-step{step:03d}.png", console)
            end = "terminated" if terminated else "truncated"
            success = "success" if adapter.success(total, info) else "no success"
            console.print(f"[bold]{end}[/] after {step} steps, return {total:+g}: {success}")
    if out is not None:
        console.print(f"Frames: {out.absolute()}", soft_wrap=True)


def _policy(name: str, env_id: str, rng: np.random.Generator, console: Console, resources: ExitStack) -> Respond:
    if name == "expert":
        return lambda adapter, observation, info: adapter.expert(info, rng)
    if name == "random":
        return lambda adapter, observation, info: adapter.expert(info, rng, noise=1.0)
    if name == "human":
        return lambda adapter, observation, info: _ask(adapter, info, console)
    if not Path(name).is_dir():
        raise ConfigError(
            f"There is no policy {name!r}.", "give human, expert, random, a run directory or a model folder"
        )
    from cluster.served import served_policy

    served = resources.enter_context(served_policy(name))
    return lambda adapter, observation, info: served.respond(adapter, observation, info)


def _ask(adapter: TaskAdapter, info: dict[str, Any], console: Console) -> str:
    legal = list(adapter.legal_actions(info))
    answer = console.input(f"  action, one of {escape(', '.join(legal))}: ").strip()
    return f'{{"action": "{answer}"}}'


def _save_frame(image: np.ndarray | None, out: Path | None, name: str, console: Console) -> None:
    if out is None or image is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(out / name)
