"""Random play of an environment through its adapter; the conformance kit judges what it yields."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from envs.base import TaskAdapter

LONGEST_EPISODE_STEPS = 1000
"""An episode that is still running after so many steps is taken to be endless."""


class EndlessEpisode(RuntimeError):
    """An episode did not end within LONGEST_EPISODE_STEPS."""


@dataclass(frozen=True)
class Visit:
    """One state as `reset` or `step` handed it out; the objects are the environment's own, not copies."""

    episode: int
    observation: Any
    info: dict[str, Any]
    reward: float
    """Paid on the way into this state; 0.0 after a reset."""
    terminated: bool
    truncated: bool

    @property
    def ended(self) -> bool:
        """True in the last state of an episode, where nothing is decided any more."""
        return self.terminated or self.truncated


def walk(env: gymnasium.Env, task: TaskAdapter, seed: int, episodes: int) -> Iterator[Visit]:
    """Yield every state of `episodes` episodes played by uniformly random legal actions.

    The environment is seeded at the first reset only, so that later episodes continue its own random stream.

    Raises:
        EndlessEpisode: an episode did not end.
        ValueError: a state has no legal action.
    """
    rng = np.random.default_rng(seed)
    for episode in range(episodes):
        observation, info = env.reset(seed=seed if episode == 0 else None)
        yield Visit(episode, observation, info, 0.0, False, False)
        for _ in range(LONGEST_EPISODE_STEPS):
            legal = task.legal_actions(info)
            if not legal:
                raise ValueError(f"{task.env_id} has no legal action in a state that has not ended")
            action = task.env_action(legal[int(rng.integers(len(legal)))], info)
            observation, reward, terminated, truncated, info = env.step(action)
            yield Visit(episode, observation, info, float(reward), terminated, truncated)
            if terminated or truncated:
                break
        else:
            raise EndlessEpisode(
                f"episode {episode} was still running after {LONGEST_EPISODE_STEPS} steps; "
                "let the rules end it, or register the environment with max_episode_steps"
            )
