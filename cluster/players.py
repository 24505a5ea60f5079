"""Players without a model: the task's scripted expert, and chance. What a policy's success is to be compared with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import gymnasium
import numpy as np

from actors.tally import EpisodeTally
from cluster.config.env import EnvConfig
from cluster.stages.model import env_maker
from envs.base import TaskAdapter
from protocol.episode import EpisodeResult
from protocol.errors import ExpertFailed
from protocol.trajectory import EndReason

EXPERT, RANDOM = PLAYERS = ("expert", "random")


def chance(legal: Sequence[str], rng: np.random.Generator) -> str:
    """One of the legal actions."""
    return legal[int(rng.integers(len(legal)))]


def answer(player: str, adapter: TaskAdapter, info: Mapping[str, Any], rng: np.random.Generator) -> str:
    """The player's response to a state: the expert's own, or a uniformly random legal action.

    Raises:
        ExpertFailed: The expert knows no answer.
    """
    if player == RANDOM:
        return json.dumps({"action": chance(adapter.legal_actions(info), rng)}, ensure_ascii=False)
    try:
        return adapter.expert(info, rng)
    except ValueError as error:
        raise ExpertFailed(f"The scripted expert knows no answer here: {error}", "play another seed") from error


def panel_player(
    env: EnvConfig, player: str, show: Callable[[int], None] = lambda done: None
) -> Callable[[Sequence[int], float], list[EpisodeResult]]:
    """Plays panels as `cluster.evaluation.evaluate` wants it; the temperature says nothing here.

    An episode in which the expert knows no more counts as truncated there.

    Args:
        env: What is played.
        player: One of PLAYERS.
        show: Called with the number of episodes that are done.
    """

    def play(seeds: Sequence[int], temperature: float) -> list[EpisodeResult]:
        made, adapter = env_maker(env)()
        results: list[EpisodeResult] = []
        with closing(made):
            for seed in seeds:
                results.append(_episode(made, adapter, player, seed))
                show(len(results))
        return results

    return play


def _episode(env: gymnasium.Env, adapter: TaskAdapter, player: str, seed: int) -> EpisodeResult:
    rng = np.random.default_rng(seed)
    tally, end = EpisodeTally(), EndReason.NONE
    _, info = env.reset(seed=seed)
    while end is EndReason.NONE:
        try:
            action = json.loads(answer(player, adapter, info, rng))["action"]
        except ExpertFailed:
            end = EndReason.TRUNCATED
            break
        _, reward, terminated, truncated, info = env.step(adapter.env_action(action, info))
        tally.add(float(reward), legal=True, recognized={})
        end = EndReason.TERMINATED if terminated else EndReason.TRUNCATED if truncated else EndReason.NONE
    return tally.result(adapter, end, info, seed)
