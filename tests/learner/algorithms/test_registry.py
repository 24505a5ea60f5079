"""Every setting of an algorithm reaches the estimator or the loss that it is meant for."""

from operator import attrgetter
from typing import Any

import pytest

from learner.algorithms.base import Algorithm
from learner.algorithms.config import CRITIC_ALGORITHMS, SINGLE_PASS_ALGORITHMS, TOKEN_ALGORITHMS
from learner.algorithms.registry import ALGORITHMS, build_algorithm
from learner.importance import Correction
from tests.learner.world import config

EVERY = tuple(ALGORITHMS)
CRITIC, TOKENS = (tuple(sorted(names)) for names in (CRITIC_ALGORITHMS, TOKEN_ALGORITHMS))
CLIPPED = ("ppo", *TOKENS)
SETTINGS: list[tuple[tuple[str, ...], str, str, dict[str, Any], Any]] = [
    (EVERY, "estimate.gamma", "ppo", {"gamma": 0.5}, 0.5),
    (EVERY, "estimate.reward_scale", "ppo", {"reward_scale": 0.25}, 0.25),
    (CRITIC, "estimate.gae_lambda", "ppo", {"gae_lambda": 0.5}, 0.5),
    (CRITIC, "estimate.bootstrap_truncated", "ppo", {"bootstrap_truncated": False}, False),
    ((*CRITIC, "reinforce"), "estimate.normalized", "ppo", {"normalize_advantages": False}, False),
    (("grpo",), "estimate.per_group", "grpo", {"normalization": "none"}, False),
    (("gigpo",), "estimate.normalized", "gigpo", {"normalization": "none"}, False),
    (("gigpo",), "estimate.step_weight", "gigpo", {"step_weight": 0.25}, 0.25),
    (CLIPPED, "policy_loss.clip", "ppo", {"clip": 0.3}, 0.3),
    (CLIPPED, "policy_loss.max_ratio", "ppo", {"max_ratio": 7.0}, 7.0),
    (TOKENS, "policy_loss.weights", "token_loss", {"weights": "action"}, "action"),
    (TOKENS, "policy_loss.reduction", "token_loss", {"reduction": "sum"}, "sum"),
    (EVERY, "policy_loss.correction", "importance", {"mode": "masked", "threshold": 1.5}, Correction("masked", 1.5)),
]
CASES = [(algorithm, *case) for algorithms, *case in SETTINGS for algorithm in algorithms]


def built(algorithm: str, section: str, settings: dict[str, Any]) -> Algorithm:
    ppo = {"epochs": 1, "minibatch_size": 10_000} if algorithm in SINGLE_PASS_ALGORITHMS else {}
    if section == "ppo":
        return build_algorithm(config({"algorithm": algorithm}, **ppo, **settings))
    return build_algorithm(config({"algorithm": algorithm, section: settings}, **ppo))


@pytest.mark.parametrize(("algorithm", "attribute", "section", "settings", "expected"), CASES)
def test_a_setting_arrives(algorithm, attribute, section, settings, expected):
    read = attrgetter(attribute)
    assert read(built(algorithm, section, settings)) == expected
    assert read(built(algorithm, "ppo", {})) != expected, "the default, of which this would show nothing"
