"""Step an environment by hand, by its expert, at random or by a trained run, and show the dialogue."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image
from rich.console import Console

from actors.parsing import parse_action
from cluster.config import EnvConfig
from cluster.model_stage import env_maker
from envs.base import TaskAdapter
from protocol.errors import ConfigError

Respond = Callable[[TaskAdapter, Any, dict[str, Any]], str]
"""Adapter, observation and info to the text of a response."""


def play_episodes(env_id: str, policy: str, *, episodes: int, seed: int, out: Path | None, console: Console) -> None:
    """Play whole episodes and print the prompt where it is new, and response, action and reward of every step.

    Args:
        env_id: Registered id, or `module:EnvClass`; empty for the run's own environment (without a run: NumberLine).
        policy: `human`, `expert`, `random`, or a run directory, a checkpoint or a model folder.
        episodes: How many.
        seed: Of the first episode; the following count up.
        out: Folder for the frames as PNG, one per state; None saves none.
        console: Where to print.

    Raises:
        ConfigError: There is no such policy.
        envs.errors.EnvError: There is no such environment.
    """
    rng = np.random.default_rng(seed)
    with ExitStack() as resources:
        env_config, respond = _policy(policy, env_id, rng, console, resources)
        env, adapter = env_maker(env_config)()
        resources.callback(env.close)
        player = _Player(env, adapter, respond, rng, out, console)
        try:
            for episode in range(episodes):
                player.play(episode, seed + episode)
        except EOFError:
            console.print("\nend of input")
    if out is not None:
        _say(console, f"Frames: {out.absolute()}")


class _Player:
    """Plays one episode after the other."""

    def __init__(
        self,
        env: gymnasium.Env,
        adapter: TaskAdapter,
        respond: Respond,
        rng: np.random.Generator,
        out: Path | None,
        console: Console,
    ) -> None:
        self._env, self._adapter, self._respond = env, adapter, respond
        self._rng, self._out, self._console = rng, out, console

    def play(self, number: int, seed: int) -> None:
        """Play the episode and print it."""
        observation, info = self._env.reset(seed=seed)
        self._console.print(f"[bold]episode {number}[/] (seed {seed})")
        shown, total, step, done = "", 0.0, 0, False
        while not done:
            self._save_frame(observation, info, number, step)
            prompt = self._adapter.prompt(observation, info)
            if prompt != shown:
                _say(self._console, prompt, style="dim")
                shown = prompt
            text = self._respond(self._adapter, observation, info)
            action, status = self._choose(text, info)
            observation, reward, terminated, truncated, info = self._env.step(self._adapter.env_action(action, info))
            total, step, done = total + float(reward), step + 1, terminated or truncated
            _say(self._console, f"  {text}\n  -> {action!r} ({status}), reward {float(reward):+g}")
        self._save_frame(observation, info, number, step)
        end = "terminated" if terminated else "truncated"
        success = "success" if self._adapter.success(total, info) else "no success"
        self._console.print(f"[bold]{end}[/] after {step} steps, return {total:+g}: {success}")

    def _choose(self, text: str, info: dict[str, Any]) -> tuple[str, str]:
        """The action that the text names, or else a random legal one; and how the text was understood."""
        legal = list(self._adapter.legal_actions(info))
        parsed = parse_action(text, self._adapter.action_names or legal, legal)
        named = parsed.name if parsed.name in legal else None
        return named or legal[int(self._rng.integers(len(legal)))], parsed.status.value

    def _save_frame(self, observation: Any, info: dict[str, Any], episode: int, step: int) -> None:
        image = self._adapter.image(observation, info)
        if self._out is None or image is None:
            return
        self._out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(self._out / f"episode{episode:03d}-step{step:03d}.png")


def _policy(
    name: str, env_id: str, rng: np.random.Generator, console: Console, resources: ExitStack
) -> tuple[EnvConfig, Respond]:
    env = EnvConfig(id=env_id) if env_id else EnvConfig()
    if name == "expert":
        return env, lambda adapter, observation, info: adapter.expert(info, rng)
    if name == "random":
        return env, lambda adapter, observation, info: adapter.expert(info, rng, noise=1.0)
    if name == "human":
        return env, lambda adapter, observation, info: _ask(adapter, info, console)
    if not Path(name).is_dir():
        raise ConfigError(
            f"There is no policy {name!r}.", "give human, expert, random, a run directory or a model folder"
        )
    # Ray comes with it.
    from cluster.served import find_policy, served_policy

    source = find_policy(name)
    env = source.env(env_id)
    env_maker(env)()[0].close()  # a misspelled id is reported before anything starts
    _say(console, f"Starting an inference server for {source.package or source.model}", style="dim")
    served = resources.enter_context(served_policy(source))
    return env, served.respond


def _ask(adapter: TaskAdapter, info: dict[str, Any], console: Console) -> str:
    """Ask until the answer is a legal action's name; raises EOFError at the end of the input."""
    legal = list(adapter.legal_actions(info))
    while True:
        answer = console.input(f"  action, one of {', '.join(legal)}: ", markup=False).strip()
        if answer in legal:
            return json.dumps({"action": answer})
        _say(console, f"  {answer!r} is not among them")


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: brackets in it are no markup, long lines stay whole."""
    console.print(text, style=style, markup=False, soft_wrap=True)
