"""Evaluation: the panel is fixed by its name alone, the sums are right, the interval is Wilson's."""

import hashlib
import json
import math
from typing import Any

import pytest

from cluster.config import default_config
from cluster.config.env import ComponentConfig, EnvConfig, PromptConfig
from cluster.evaluation import EvaluationResult, Panel, evaluate, wilson_interval
from protocol.episode import EpisodeResult
from tests.cluster.results import LOST, episode

ENV = EnvConfig()


def panel(**changes: Any) -> Panel:
    return Panel(**{"env": ENV, "seed": 1_000_000, "episodes": 3} | changes)


def evaluation_of(*results: EpisodeResult, temperature: float = 0.0) -> EvaluationResult:
    return evaluate(lambda seeds, at: list(results), panel(episodes=len(results)), 7, temperature)


def test_the_seeds_of_a_panel_are_distinct_and_always_the_same():
    seeds = panel(episodes=5000).seeds()
    assert len(set(seeds)) == 5000
    assert seeds == panel(episodes=5000).seeds()
    assert all(2**30 <= seed < 2**31 for seed in seeds), "an environment's reset takes them"
    assert panel(episodes=100).seeds() == seeds[:100], "a longer panel begins with the shorter"


def test_the_largest_panel_still_has_distinct_seeds():
    limit = 1_000_000  # of evaluation.episodes and of --episodes
    assert len(set(panel(episodes=limit).seeds())) == limit


@pytest.mark.parametrize(
    "change",
    [
        {"env": EnvConfig(id="gym_cards/EZPoints-v0")},
        {"env": EnvConfig(kwargs={"max_position": 4})},
        {"env": EnvConfig(adapter="my_env:Adapter")},
        {"seed": 1},
        {"episodes": 4},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_names_what_is_played(change):
    assert panel().digest() == panel().digest()
    assert panel(**change).digest() != panel().digest()


def mixture(**changes: Any) -> EnvConfig:
    parts = {"dots": ComponentConfig(id="docs.examples.dots:DotEnv", weight=2), "lines": ComponentConfig()}
    return EnvConfig(mixture=parts | changes)


@pytest.mark.parametrize(
    ("env", "same"),
    [
        (mixture(), True),
        (mixture(lines=ComponentConfig(thought_weight=0.25)), True),
        (mixture(lines=ComponentConfig(prompt=PromptConfig(thoughts=False, memory=2))), True),
        (mixture(lines=ComponentConfig(weight=3)), False),
        (mixture(lines=ComponentConfig(kwargs={"max_position": 4})), False),
        (mixture(lines=ComponentConfig(id="gym_cards/EZPoints-v0")), False),
        (mixture(more=ComponentConfig()), False),
        (EnvConfig(mixture=dict(reversed(mixture().mixture.items()))), False),  # other draws
        (ENV, False),
    ],
)
def test_the_digest_of_a_mixture_names_components_and_weights(env, same):
    assert (panel(env=env).digest() == panel(env=mixture()).digest()) is same


def test_the_wording_of_prompts_is_no_part_of_a_panel():
    assert panel(env=EnvConfig(prompt=PromptConfig(text_only=True, memory=2))).digest() == panel().digest()


def test_a_panel_without_mixture_has_the_digest_that_it_always_had():
    """Evaluations of older runs stay comparable."""
    key = [ENV.id, None, {}, panel().seeds()]
    assert panel().digest() == hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def test_training_settings_do_not_touch_the_panel():
    def digest(*overrides: str) -> str:
        config = default_config(overrides)
        assert config.evaluation is not None
        return Panel(config.env, config.evaluation.seed, config.evaluation.episodes).digest()

    trained_otherwise = ("seed=5", "workers.count=4", "workers.envs_per_worker=8", "rollout.temperature=0.5")
    assert digest(*trained_otherwise) == digest()
    assert digest("evaluation.seed=5") != digest()


def test_the_panel_is_played_at_the_temperature_that_is_reported():
    calls = []

    def play(seeds, temperature):
        calls.append((list(seeds), temperature))
        return [episode(seed=seed) for seed in seeds]

    greedy, sampled = (evaluate(play, panel(), 7, temperature) for temperature in (0.0, 0.7))
    assert calls == [(panel().seeds(), 0.0), (panel().seeds(), 0.7)]
    assert (greedy.greedy, greedy.temperature, sampled.greedy, sampled.temperature) == (True, 0.0, False, 0.7)
    assert (greedy.env, greedy.seed, greedy.episodes, greedy.policy_version) == (ENV.id, 1_000_000, 3, 7)
    assert greedy.panel_digest == panel().digest()


def test_sums_by_hand():
    lost = episode(**LOST, invalid_steps=3, env_error=True, recognized_steps=4, recognition_steps=8)
    result = evaluation_of(episode(), episode(), lost)
    assert result.success_rate == pytest.approx(2 / 3)
    assert result.success_ci95 == pytest.approx(wilson_interval(2, 3))
    assert result.mean_return == pytest.approx(-1 / 3)
    assert result.mean_length == pytest.approx(14 / 3)
    assert result.invalid_rate == pytest.approx(3 / 14)
    assert result.truncation_rate == pytest.approx(1 / 3)
    assert result.recognition_accuracy == pytest.approx(8 / 12)
    assert result.env_errors == 1
    assert str(result) == "66.7 % [20.8, 93.9]"


def test_tasks_are_summed_apart():
    result = evaluation_of(episode(task="heat"), episode(task="cool"), episode(task="cool", **LOST))
    assert result.per_task == {
        "cool": {"episodes": 2, "success_rate": 0.5, "mean_return": -1.0},
        "heat": {"episodes": 1, "success_rate": 1.0, "mean_return": 1.0},
    }
    assert list(evaluation_of(episode()).per_task) == [ENV.id], "one task is called like its environment"


def test_a_mixture_is_summed_by_component_and_by_the_components_tasks():
    results = [episode(task="dots"), episode(task="house/heat"), episode(task="house/cool", **LOST)]
    result = evaluate(lambda seeds, at: results, panel(env=mixture()), 7, 0.0)
    assert result.env == "dots+lines"
    shares = {name: (row["episodes"], row["success_rate"]) for name, row in result.per_task.items()}
    assert shares == {"dots": (1, 1.0), "house": (2, 0.5), "house/cool": (1, 0.0), "house/heat": (1, 1.0)}


def test_recognition_is_told_for_every_field():
    half = episode(recognition={"cards": (2, 2), "current formula": (0, 2)})
    rest = episode(recognition={"cards": (1, 2), "dot": (3, 3)})
    result = evaluation_of(half, rest, episode())
    assert result.recognition == {"cards": 0.75, "current formula": 0.0, "dot": 1.0}
    assert json.loads(json.dumps(result.to_json()))["recognition"] == result.recognition
    assert evaluation_of(episode()).recognition == {}


def test_the_card_of_an_older_run_is_still_read():
    values = evaluation_of(episode()).to_json()
    del values["recognition"]
    assert EvaluationResult.from_json(values).recognition == {}


def test_the_json_holds_every_promised_key_and_no_nan():
    result = evaluation_of(episode(recognized_steps=0, recognition_steps=0))
    values = json.loads(json.dumps(result.to_json()), parse_constant=pytest.fail)
    promised = (
        "env episodes seed greedy temperature policy_version panel_digest success_rate success_ci95 mean_return "
        "mean_length invalid_rate truncation_rate recognition_accuracy per_task recognition"
    )
    assert set(promised.split()) <= set(values)
    assert values["recognition_accuracy"] is None and len(values["success_ci95"]) == 2
    again = EvaluationResult.from_json(values)
    assert math.isnan(again.recognition_accuracy)
    assert again.to_json() == result.to_json() and str(again) == str(result)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [  # with no or only successes one end is z^2 / (n + z^2) from 0 or 1, z = 1.959964
        (0, 10, 0.0, 0.27753),
        (5, 10, 0.23659, 0.76341),
        (10, 10, 0.72247, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),  # the same
        (1, 1, 0.20654, 1.0),
    ],
)
def test_wilson_interval(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)
