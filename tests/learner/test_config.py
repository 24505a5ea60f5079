import subprocess
import sys

import pytest
from pydantic import ValidationError

from learner.config import LearnerConfig, PPOConfig


def test_defaults_are_valid_and_frozen():
    config = LearnerConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.max_staleness = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("ppo", {"gamma": 1.5}),
        ("ppo", {"thought_weight": -0.1}),
        ("ppo", {"clip": 0.0}),
        ("ppo", {"minibatch_size": 0}),
        ("ppo", {"value_clip": 0.0}),
        ("lora", {"targets": "vision"}),
        ("lora", {"dropout": 1.0}),
        ("sft", {"betas": (0.9, 1.0)}),
        ("compute", {"precision": "float16"}),
        ("ppo", {"learning_rat": 1e-3}),
        ("ppo", {"thought_weights": {"a": 1.5}}),
        ("ppo", {"thought_weight_rule": "exp"}),
        ("importance", {"threshold": 1.0}),
        ("importance", {"mode": "clip"}),
        ("token_loss", {"weights": "thought"}),
        ("grpo", {"smoothing": 1.0}),
        ("gigpo", {"step_weight": -1.0}),
        ("monitors", {"rows": -1}),
    ],
)
def test_bad_values_and_unknown_keys_are_refused(part, values):
    with pytest.raises(ValidationError, match=next(iter(values))):
        LearnerConfig.model_validate({part: values})


def test_contradicting_ratio_bounds_name_both_fields():
    with pytest.raises(ValidationError, match=r"max_ratio 1\.05.*clip"):
        PPOConfig(clip=0.1, max_ratio=1.05)


def test_importing_the_settings_loads_no_torch():
    code = "import sys, learner.config, learner.model_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_every_field_has_a_description_below_it():
    import ast
    import inspect

    import learner.algorithms.config
    import learner.config

    for module in (learner.config, learner.algorithms.config):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                    if isinstance(field, ast.AnnAssign):
                        assert isinstance(after, ast.Expr), f"{node.name}.{ast.unparse(field.target)}"


def test_every_algorithm_is_registered_and_the_sets_name_algorithms():
    from typing import get_args

    from learner.algorithms import config
    from learner.algorithms.registry import ALGORITHMS
    from learner.algorithms.token_loss import ClippedTokenLoss

    names = set(get_args(config.AlgorithmName))
    assert set(ALGORITHMS) == names
    for name in names:
        made = ALGORITHMS[name](LearnerConfig())
        assert made.has_critic == (name in config.CRITIC_ALGORITHMS)
        assert isinstance(made.policy_loss, ClippedTokenLoss) == (name in config.TOKEN_ALGORITHMS)
    assert config.GROUP_ALGORITHMS | config.SINGLE_PASS_ALGORITHMS <= names


@pytest.mark.parametrize("algorithm", ["reinforce", "rloo"])
def test_algorithms_without_a_ratio_use_every_row_once(algorithm):
    with pytest.raises(
        ValidationError, match=f"{algorithm} uses every row once, not learner.ppo.epochs = 4.*learner.ppo.epochs=1"
    ):
        LearnerConfig.model_validate({"algorithm": algorithm})
    LearnerConfig.model_validate({"algorithm": algorithm, "ppo": {"epochs": 1}})


@pytest.mark.parametrize("algorithm", ["vl_dac", "grpo", "gigpo"])
def test_a_lambda_that_nobody_reads_is_refused(algorithm):
    settings = {"algorithm": algorithm, "ppo": {"thought_weight_rule": "auto"}}
    with pytest.raises(ValidationError, match=f"auto has no effect on algorithm {algorithm} .*weights=thought_weight"):
        LearnerConfig.model_validate(settings)
    LearnerConfig.model_validate(settings | {"token_loss": {"weights": "thought_weight"}})


def test_a_learning_rate_schedule_must_outlast_the_warmup():
    with pytest.raises(ValidationError, match="learning_rate_updates 5 must exceed warmup_updates 5"):
        PPOConfig(learning_rate_schedule="cosine", learning_rate_updates=5, warmup_updates=5)
    PPOConfig(learning_rate_updates=5, warmup_updates=5)
