"""The base model of a run: a given folder, or a tiny model built from the environment's own texts.

Also what every model needs from the environment before RL: demonstrations, and the canaries that prove a publish.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np

import envs
from actors.demonstrations import canary_prompts, demonstrate
from actors.prompting import ImageSize, PromptEncoder
from cluster.config import EnvConfig
from envs.base import TaskAdapter
from envs.errors import EnvError
from protocol.adapter import CanaryPrompt
from protocol.codec import TrajectoryBatch
from protocol.errors import ConfigError

CORPUS_EPISODES = 200
"""First states that a tiny tokenizer's corpus is drawn from."""

CANARIES = 4
"""Prompts that prove a publish; every one is scored at every publish."""


def env_maker(env: EnvConfig) -> Callable[[], tuple[gymnasium.Env, TaskAdapter]]:
    """A function that builds the configured environment with its adapter.

    Calling it raises ConfigError where the environment does not take `env.kwargs`, and what `envs.make` raises.
    """

    def make() -> tuple[gymnasium.Env, TaskAdapter]:
        try:
            return envs.make(env.id, adapter=env.adapter, **env.kwargs)
        except (TypeError, ValueError) as error:
            if isinstance(error, EnvError) or not env.kwargs:
                raise
            raise ConfigError(f"env.kwargs is {env.kwargs}: {error}", f"see the arguments of {env.id}") from error

    return make


def corpus_of(env: EnvConfig, seed: int) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Prompts, responses and action names of the environment: what a tiny tokenizer is trained on."""
    made, adapter = env_maker(env)()
    rng = np.random.default_rng([seed, 1])
    prompts, responses = [], []
    for _ in range(CORPUS_EPISODES):
        observation, info = made.reset(seed=int(rng.integers(2**31)))
        prompts.append(adapter.prompt(observation, info))
        # Random actions too, so that no action is rarer in the corpus than another.
        responses += [adapter.expert(info, rng, noise) for noise in (0.0, 1.0)]
    made.close()
    return tuple(prompts), tuple(responses), tuple(adapter.action_names)


def image_sizes(env: EnvConfig) -> list[ImageSize]:
    """Sizes of the frames that the environment shows at its start; none for a text-only one."""
    made, adapter = env_maker(env)()
    observation, info = made.reset(seed=0)
    image = adapter.image(observation, info)
    made.close()
    return [] if image is None else [(image.shape[0], image.shape[1])]


def make_demonstrations(
    env: EnvConfig, model: str, image_tokens: dict[ImageSize, int], steps: int, noise: float, seed: int
) -> TrajectoryBatch:
    """Demonstration rows of the environment's scripted expert under the model's tokens."""
    encoder = PromptEncoder(model, image_tokens)
    return demonstrate(env_maker(env), encoder, num_steps=steps, noise=noise, seed=seed)


def make_canaries(env: EnvConfig, model: str, seed: int) -> tuple[CanaryPrompt, ...]:
    """A few states with the expert's responses, fixed for the run."""
    return canary_prompts(env_maker(env), PromptEncoder(model), count=CANARIES, seed=seed)
