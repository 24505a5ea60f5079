import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from learner.families.model_types import MODEL_TYPES, check_model_type, read_model_config
from learner.model_folder import check_model_folder
from learner.tiny.config import Family
from protocol.errors import ModelFolderError


def test_each_family_has_a_tiny_model(world_of):
    assert set(MODEL_TYPES) == set(get_args(Family))
    for family in MODEL_TYPES:
        assert read_model_config(world_of(family).folder)["model_type"] == family


def test_other_families_are_refused_before_anything_is_loaded(world, tmp_path):
    for file in world.folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    with pytest.raises(ModelFolderError, match="'gemma3' model.*Cure: use a model of one of the families Qwen2-VL"):
        check_model_folder(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_configuration_without_a_type_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelFolderError, match="names no model_type"):
        check_model_type(tmp_path)


def test_reading_the_types_loads_no_torch():
    code = "import sys, learner.families.model_types; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True, timeout=60)
