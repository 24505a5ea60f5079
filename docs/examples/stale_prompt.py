"""The original's stale prompt, rebuilt as an environment, to see what it does to EZPoints.

RL4VLM's loop takes the text of an episode's first prompt from the end of the episode before: fresh cards, and in the
text the formula that has just been handed in. A policy that believes the text hands in an empty formula and loses; the
next episode begins with a right text. Run it:

    python -m docs.examples.stale_prompt                                   # a player that believes what it is told
    croupier evaluate RUN --env docs.examples.stale_prompt:StaleEZPoints   # a policy that was trained without the bug
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

import envs
from envs.gym_cards.ez_points import EZPoints
from envs.gym_cards.ez_points_task import EZPointsTask

STALE = "docs.examples.stale_prompt:StaleEZPoints"
TOLD = "Told Formula"


class StaleEZPoints(EZPoints):
    """EZPoints whose info says, at the start of an episode, which formula the one before ended with."""

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None):
        """As the game does; the info gets "Told Formula", the formula of the last episode's end."""
        told = list(self._formula)
        observation, info = super().reset(seed=seed, options=options)
        return observation, info | {TOLD: told}


class StaleEZPointsTask(EZPointsTask):
    """The game in words, with the formula that is told and not the one that is there; demonstrations stay right."""

    env_id = STALE

    def prompt(self, observation: Any, info: Mapping[str, Any]) -> str:
        """The game's prompt with the formula that is told."""
        return super().prompt(observation, {**info, "Formula": info.get(TOLD, info["Formula"])})


class Believer:
    """A perfect player that believes the formula in its prompt."""

    def __init__(self, task: EZPointsTask, seed: int) -> None:
        self._task = task
        self._rng = np.random.default_rng(seed)

    def action(self, info: Mapping[str, Any]) -> str:
        """Hand in a formula that is told to be complete, else go on as the expert does."""
        told = info.get(TOLD, info["Formula"])
        if sum(isinstance(token, int) for token in told) == self._task.num_cards:
            return "="
        return json.loads(self._task.expert(info, self._rng))["action"]


def success_of_believer(env_id: str, episodes: int, seed: int = 0) -> float:
    """Share of the episodes, played one after another in one environment, that the player wins."""
    env, task = envs.make(env_id)
    assert isinstance(task, EZPointsTask)
    player, wins = Believer(task, seed), 0
    for episode in range(episodes):
        _, info = env.reset(seed=seed if episode == 0 else None)
        ended, episode_return = False, 0.0
        while not ended:
            _, reward, terminated, truncated, info = env.step(task.env_action(player.action(info), info))
            ended, episode_return = terminated or truncated, episode_return + float(reward)
        wins += task.success(episode_return, info)
    return wins / episodes


if __name__ == "__main__":
    for label, env_id in (("right prompts", "gym_cards/EZPoints-v0"), ("stale first prompts", STALE)):
        print(f"{label}: {success_of_believer(env_id, 2000):.1%} of 2000 episodes won")
