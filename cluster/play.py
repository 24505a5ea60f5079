"""Step an environment by hand, by its expert, at random or by a trained run, and show the dialogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image
from rich.console import Console

from actors.parsing import parse_action
from cluster.alfworld.scenes import generate_scenes
from cluster.config import default_config
from cluster.config.env import EnvConfig
from cluster.players import PLAYERS, answer, chance
from cluster.record.progress import RunProgress
from cluster.stages.model import env_maker
from envs.base import Query, TaskAdapter
from protocol.errors import ConfigError
from protocol.trajectory import ParseStatus

Respond = Callable[[TaskAdapter, Any, dict[str, Any]], str]
"""Adapter, observation and info to the text of a response."""


def play_episodes(
    env_id: str,
    policy: str,
    *,
    episodes: int,
    seed: int,
    out: Path | None,
    console: Console,
    overrides: Sequence[str] = (),
) -> None:
    """Play whole episodes and print the prompt where it is new, and response, action and reward of every step.

    What is printed and saved is what a policy is given: the memory of the episode and marks on pictures included.

    Args:
        env_id: Registered id, or `module:EnvClass`; empty for the run's own environment (without a run: NumberLine).
        policy: `human`, `expert`, `random`, or a run directory, a checkpoint or a model folder.
        episodes: How many.
        seed: Of the first episode; the following count up.
        out: Folder for the frames as PNG; None saves none.
        console: Where to print.
        overrides: `key=value` pairs such as `env.prompt.memory=2`, on top of the run's configuration or the defaults.

    Raises:
        ConfigError: There is no such policy.
        envs.errors.EnvError: There is no such environment.
    """
    rng = np.random.default_rng(seed)
    with ExitStack() as resources:
        env_config, respond = _policy(policy, env_id, overrides, rng, console, resources)
        generate_scenes(env_config, RunProgress(console))
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
        task = self._adapter.task(info)
        _say(self._console, f"episode {number} (seed {seed}){f', {task}' if task else ''}", style="bold")
        shown, total, step, done = "", 0.0, 0, False
        while not done:
            query = self._adapter.query(observation, info)
            self._save_frames(query, number, step)
            if query.text != shown:
                _say(self._console, query.text, style="dim")
                shown = query.text
            text = self._respond(self._adapter, observation, info)
            action, status = self._choose(text, info)
            observation, reward, terminated, truncated, info = self._env.step(self._adapter.env_action(action, info))
            total, step, done = total + float(reward), step + 1, terminated or truncated
            _say(self._console, f"  {text}\n  -> {action!r} ({status}), reward {float(reward):+g}")
        self._save_frames(self._adapter.query(observation, info), number, step)
        end = "terminated" if terminated else "truncated"
        success = "success" if self._adapter.success(total, info) else "no success"
        self._console.print(f"[bold]{end}[/] after {step} steps, return {total:+g}: {success}")

    def _choose(self, text: str, info: dict[str, Any]) -> tuple[str, str]:
        """What is played, which is as in rollouts the task's fallback or a random legal action where the text names
        none; and how the text was understood."""
        adapter, legal = self._adapter.component(info), list(self._adapter.legal_actions(info))
        parsed = parse_action(text, adapter.action_names or legal, legal)
        action = parsed.name if parsed.status is ParseStatus.OK else adapter.fallback(parsed.value, info)
        return chance(legal, self._rng) if action is None else action, parsed.status.value

    def _save_frames(self, query: Query, episode: int, step: int) -> None:
        """Save the picture of the present state, and those of remembered ones, counted backwards, beside it."""
        if self._out is None or not query.images:
            return
        self._out.mkdir(parents=True, exist_ok=True)
        name = f"episode{episode:03d}-step{step:03d}"
        for back, image in enumerate(reversed(query.images)):
            Image.fromarray(image).save(self._out / f"{name}{f'-before{back}' if back else ''}.png")


def _policy(
    name: str,
    env_id: str,
    overrides: Sequence[str],
    rng: np.random.Generator,
    console: Console,
    resources: ExitStack,
) -> tuple[EnvConfig, Respond]:
    if name in (*PLAYERS, "human"):
        env = default_config([f"env.id={env_id}", *overrides] if env_id else overrides).env
    if name in PLAYERS:
        return env, lambda adapter, observation, info: answer(name, adapter, info, rng)
    if name == "human":
        return env, lambda adapter, observation, info: _ask(adapter, info, console)
    if not Path(name).is_dir():
        raise ConfigError(
            f"There is no policy {name!r}.", "give human, expert, random, a run directory or a model folder"
        )
    # Ray comes with it.
    from cluster.servers.served import find_policy, served_policy

    source = find_policy(name, overrides)
    env = source.env(env_id, overrides)
    generate_scenes(env, RunProgress(console))
    env_maker(env)()[0].close()  # a misspelled id is reported before anything starts
    _say(console, f"Starting an inference server for {source.package or source.model}", style="dim")
    served = resources.enter_context(served_policy(source))
    return env, served.respond


def _answer(action: str) -> str:
    return json.dumps({"action": action}, ensure_ascii=False)


def _ask(adapter: TaskAdapter, info: dict[str, Any], console: Console) -> str:
    """Ask until the answer is a legal action's name; raises EOFError at the end of the input."""
    legal = list(adapter.legal_actions(info))
    while True:
        answer = console.input(f"  action, one of {', '.join(legal)}: ", markup=False).strip()
        if answer in legal:
            return _answer(answer)
        _say(console, f"  {answer!r} is not among them")


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: brackets in it are no markup, long lines stay whole."""
    console.print(text, style=style, markup=False, soft_wrap=True)
