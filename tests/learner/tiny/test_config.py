import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from learner.tiny.config import TinyVLMConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 64, "heads": 4}, "64 / 4"),
        ({"hidden_size": 100, "heads": 3}, "100 / 3"),
        ({"vision_hidden_size": 66, "vision_heads": 2}, "66 / 2"),
        ({"image_px": 100}, "multiple of 28"),
        ({"vocab_size": 256}, "greater than or equal to 320"),
        ({"max_position_embeddings": 512}, "greater than or equal to 1024"),
        ({"initializer_range": 0.0}, "greater than 0"),
        ({"family": "gpt2"}, "qwen2_5_vl"),
        ({"hidden": 64}, "Extra inputs"),
    ],
)
def test_unusable_sizes_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        TinyVLMConfig(**values)


@pytest.mark.parametrize(("image_px", "tokens"), [(28, 1), (84, 9), (224, 64)])
def test_image_tokens(image_px, tokens):
    assert TinyVLMConfig(image_px=image_px).image_tokens == tokens


def test_config_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        TinyVLMConfig().layers = 3


def test_reading_the_config_loads_no_torch():
    code = "import sys, learner.tiny.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True, timeout=60)
