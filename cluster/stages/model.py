"""The base model of a run: a given folder, or a tiny model built from the environment's own texts.

Also what every model needs from the environment before RL: demonstrations, and the canaries that prove a publish.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice

import gymnasium
import numpy as np

import envs
from actors.demonstrations import Demonstrations, Patience, canary_prompts, demonstrate
from actors.prompting import ImageSize, PromptEncoder
from cluster.config.env import EnvConfig, SingleEnvConfig
from cluster.config.stages import DemonstrationConfig
from envs.base import TaskAdapter
from envs.errors import EnvError
from protocol.adapter import CanaryPrompt
from protocol.errors import ConfigError

CORPUS_STATES = 600
"""States of each environment that a tiny tokenizer's corpus is drawn from."""

CORPUS_STATES_PER_EPISODE = 12
"""Long enough to meet the texts of an episode's end, short enough to meet many episodes."""

CANARIES = 4
"""Prompts that prove a publish; every one is scored at every publish."""


def env_maker(env: EnvConfig) -> Callable[[], tuple[gymnasium.Env, TaskAdapter]]:
    """A function that builds the configured environment, or mixture of environments, with its adapter.

    Calling it raises ConfigError where an environment does not take its `kwargs`, and what `envs.make` raises.
    """
    if not env.mixture:
        return lambda: _make_one(env, "env")
    return lambda: _make_mixture(env)


def _make_mixture(env: EnvConfig) -> tuple[gymnasium.Env, TaskAdapter]:
    components: dict[str, envs.Component] = {}
    try:
        for name, one in env.mixture.items():
            components[name] = envs.Component(*_make_one(one, f"env.mixture.{name}"), one.weight)
        return envs.mix(components)
    except Exception:
        for component in components.values():
            component.env.close()
        raise


def _make_one(env: SingleEnvConfig, key: str) -> tuple[gymnasium.Env, TaskAdapter]:
    """Make one environment; `key` is its place in the configuration."""
    try:
        return envs.make(env.id, adapter=env.adapter, prompt=env.prompt.switches(), **env.kwargs)
    except (TypeError, ValueError) as error:
        if isinstance(error, EnvError) or not env.kwargs:
            raise
        raise ConfigError(f"{key}.kwargs is {env.kwargs}: {error}", f"see the arguments of {env.id}") from error


def corpus_of(env: EnvConfig, seed: int) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Prompts, responses and words to keep whole: what a tiny tokenizer is trained on.

    Raises:
        ExpertFailed: The scripted expert knows nothing to say in any episode.
    """
    rng = np.random.default_rng([seed, 1])
    prompts: list[str] = []
    responses: list[str] = []
    names: dict[str, None] = {}
    for key, component in env.components.items():
        made, adapter = _make_one(component, key)
        with closing(made):
            for prompt, answers in islice(_wander(made, adapter, rng), CORPUS_STATES):
                prompts.append(prompt)
                responses += answers
        names |= dict.fromkeys(adapter.whole_words())
    return tuple(prompts), tuple(responses), tuple(names)


def image_sizes(env: EnvConfig) -> list[ImageSize]:
    """Sizes of the frames that the environment shows at its start; none for a text-only one."""
    sizes: dict[ImageSize, None] = {}
    for key, component in env.components.items():
        made, adapter = _make_one(component, key)
        with closing(made):
            images = adapter.query(*made.reset(seed=0)).images
        sizes |= dict.fromkeys((image.shape[0], image.shape[1]) for image in images)
    return list(sizes)


def _wander(env: gymnasium.Env, adapter: TaskAdapter, rng: np.random.Generator) -> Iterator[tuple[str, list[str]]]:
    """Prompts and responses without end, from episodes in which every other action is random.

    Of the two responses of a state one is the expert's, and one has a random action, so that no action is rarer in
    the corpus than another.
    """
    patience = Patience()
    while True:
        observation, info = env.reset(seed=int(rng.integers(2**31)))
        for _ in range(CORPUS_STATES_PER_EPISODE):
            try:
                *answers, played = [adapter.expert(info, rng, noise) for noise in (0.0, 1.0, 0.5)]
            except ValueError as error:
                patience.give_up(adapter, error)
                break
            patience.spoke()
            yield adapter.query(observation, info).text, answers
            action = adapter.env_action(json.loads(played)["action"], info)
            observation, _, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                break


def make_demonstrations(
    env: EnvConfig, model: str, image_tokens: dict[ImageSize, int], shown: DemonstrationConfig, seed: int
) -> Demonstrations:
    """Demonstrations of the environment's scripted expert under the model's tokens."""
    encoder = PromptEncoder(model, image_tokens)
    return demonstrate(
        env_maker(env), encoder, num_steps=shown.steps, noise=shown.noise, seed=seed, mistakes=shown.mistakes
    )


def make_canaries(env: EnvConfig, model: str, seed: int) -> tuple[CanaryPrompt, ...]:
    """A few states with the expert's responses, fixed for the run."""
    return canary_prompts(env_maker(env), PromptEncoder(model), count=CANARIES, seed=seed)
