from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from learner.tiny.config import Family, TinyVLMConfig

FAMILIES: tuple[Family, ...] = get_args(Family)


@pytest.fixture(scope="session")
def tiny_folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Folder of the family's tiny model for NumberLine, built once; read only."""

    # Here, so that tests without a model folder start without torch.
    from cluster.config import EnvConfig
    from cluster.stages.model import corpus_of
    from learner.tiny.builder import build_tiny_vlm
    from learner.tiny.corpus import TinyCorpus

    @cache
    def build(family: Family) -> Path:
        prompts, responses, actions = corpus_of(EnvConfig(id="gym_cards/NumberLine-v0"), seed=0)
        corpus = TinyCorpus(prompts, responses, isolated=actions)
        return build_tiny_vlm(TinyVLMConfig(family=family), corpus, 0, tmp_path_factory.mktemp("tiny") / family)

    return build


@pytest.fixture(scope="session")
def tiny_folder(tiny_folder_of: Callable[[Family], Path]) -> Path:
    """The folder of the Qwen2.5-VL family."""
    return tiny_folder_of("qwen2_5_vl")


@pytest.fixture(params=FAMILIES)
def each_tiny_folder(request: pytest.FixtureRequest, tiny_folder_of: Callable[[Family], Path]) -> Path:
    """The folder, once per family."""
    return tiny_folder_of(request.param)
