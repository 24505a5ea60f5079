"""What policies are compared with plays the very panels that they play."""

import json

import numpy as np
import pytest

from cluster import players
from cluster.config.env import EnvConfig
from cluster.evaluate_command import evaluate_run_or_model
from cluster.evaluation import Panel, evaluate
from cluster.players import answer, panel_player
from envs.gym_cards.number_line_task import NumberLineTask
from protocol.errors import ConfigError, ExpertFailed

NUMBER_LINE = "gym_cards/NumberLine-v0"


def measured(player: str, episodes: int = 200):
    env, done = EnvConfig(id=NUMBER_LINE), []
    result = evaluate(panel_player(env, player, done.append), Panel(env, 7, episodes), -1, 0.0)
    assert done == list(range(1, episodes + 1))
    return result


def test_the_expert_wins_what_chance_wins_now_and_then():
    expert, chance = measured("expert"), measured("random")
    assert expert.success_rate == 1.0 and expert.mean_return == 1.0
    assert 0.05 < chance.success_rate < 0.6
    assert expert.panel_digest == chance.panel_digest == Panel(EnvConfig(id=NUMBER_LINE), 7, 200).digest()
    assert chance == measured("random"), "the panel's seeds are all the chance there is"


def test_an_expert_that_knows_no_more_loses_the_episode(monkeypatch):
    def silent(*_):
        raise ValueError("beyond me")

    monkeypatch.setattr(NumberLineTask, "expert", silent)
    with pytest.raises(ExpertFailed, match="beyond me"):
        answer("expert", NumberLineTask(), {}, np.random.default_rng(0))
    result = measured("expert", episodes=5)
    assert (result.success_rate, result.truncation_rate, result.mean_length) == (0.0, 1.0, 0.0)


def test_no_server_is_started_for_them(monkeypatch):
    monkeypatch.setattr("cluster.evaluate_command.served_policy", None)
    result = evaluate_run_or_model(
        "expert", "gym_cards/EZPoints-v0", episodes=20, seed=1, temperature=0.0, overrides=["env.prompt.rules=false"]
    )
    assert (result.success_rate, result.env) == (1.0, "gym_cards/EZPoints-v0")
    with pytest.raises(ConfigError, match="no run directory or model folder 'nobody'"):
        evaluate_run_or_model("nobody", "", episodes=1, seed=1, temperature=0.0, overrides=[])


def test_actions_of_chance_are_legal_and_all_of_them_come():
    task, rng = NumberLineTask(), np.random.default_rng(0)
    given = {json.loads(answer(players.RANDOM, task, {}, rng))["action"] for _ in range(50)}
    assert given == set(task.legal_actions({}))
