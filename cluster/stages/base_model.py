"""The model that a run begins with: a given folder, or a tiny one built from the texts of all its stages.

The work is done on the learner's Ray actor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.config import RunConfig
from cluster.config.env import EnvConfig
from cluster.record.progress import RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.processes import ask_learner
from cluster.runtime.waiting import StopFlag
from cluster.stages.model import corpus_of, image_sizes
from learner.model_folder import check_model_folder


def base_model(config: RunConfig, run: RunDir, learner: Any, progress: RunProgress, stop: StopFlag) -> Path:
    """Folder of the model to start from: the configured one, or a tiny one that is built here if it is not there.

    Raises:
        ModelFolderError: `model.path` is missing or incomplete.
    """
    if config.model.path is not None:
        return check_model_folder(config.model.path).absolute()
    if run.base_model.is_dir():
        return run.base_model
    with progress.phase("build the tiny model") as phase:
        folder = ask_learner(
            learner.build_tiny.remote(config.model.tiny, texts_of(config), config.seed, str(run.base_model)),
            "the tiny model to be built",
            config.learner.update_timeout_s,
            stop=stop,
        )
        phase.summarize(f"{config.model.tiny.family}, {_parameters(Path(folder)):.2f} M parameters")
    return Path(folder)


def environments_of(config: RunConfig) -> list[EnvConfig]:
    """What is played in any stage, each once, in the order of the stages."""
    found: list[EnvConfig] = []
    for env in [config.of_stage(name).env for name in config.stages] or [config.env]:
        if env not in found:
            found.append(env)
    return found


def texts_of(config: RunConfig) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Prompts, responses and action names of all stages: what a tiny tokenizer is trained on."""
    corpora = [corpus_of(env, config.seed) for env in environments_of(config)]
    prompts, responses, names = (tuple(text for part in parts for text in part) for parts in zip(*corpora, strict=True))
    return prompts, responses, tuple(dict.fromkeys(names))


def image_token_counts(config: RunConfig, model: Path, learner: Any) -> dict[tuple[int, int], int]:
    """Tokens that the environment's frames take under this model, by frame size."""
    return ask_learner(
        learner.image_tokens.remote(str(model), image_sizes(config.env)),
        "the image processor to count tokens",
        config.learner.update_timeout_s,
    )


def _parameters(folder: Path) -> float:
    """Millions of parameters, from the sizes of the float32 weights files."""
    return sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 4e6
