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

    import learner.config

    for node in ast.parse(inspect.getsource(learner.config)).body:
        if isinstance(node, ast.ClassDef):
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign):
                    assert isinstance(after, ast.Expr), f"{node.name}.{ast.unparse(field.target)}"
