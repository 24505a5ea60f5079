from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import Family, TinyVLMConfig
from tests.learner.tiny.number_line import corpus

FAMILIES: tuple[Family, ...] = get_args(Family)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Folder of the family's default model with seed 0, built once; read only."""

    @cache
    def build(family: Family) -> Path:
        return build_tiny_vlm(TinyVLMConfig(family=family), corpus(), 0, tmp_path_factory.mktemp("tiny") / family)

    return build


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, folder_of: Callable[[Family], Path]) -> Path:
    """The same folder, once per family."""
    return folder_of(request.param)
