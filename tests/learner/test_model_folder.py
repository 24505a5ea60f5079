import shutil

import pytest

from learner.model_folder import check_model_folder
from protocol.errors import ModelFolderError


def test_a_complete_folder_passes(family_world):
    assert check_model_folder(str(family_world.folder)) == family_world.folder


def test_a_missing_folder_is_named_with_a_cure(tmp_path):
    with pytest.raises(ModelFolderError, match=r"no model folder at .*nowhere.*Cure: point model at"):
        check_model_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_file_is_named(world, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(world.folder, folder)
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match="lacks"):
        check_model_folder(folder)
