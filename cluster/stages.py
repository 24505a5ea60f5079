"""What happens before RL: the base model is found or built, and fine-tuned on demonstrations.

`train` and `sft` share these functions; they run on the learner's Ray actor.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cluster.config import RunConfig, SFTStageConfig
from cluster.model_stage import corpus_of, image_sizes, make_demonstrations
from cluster.processes import ask_learner
from cluster.progress import Phase, RunProgress
from cluster.run_dir import RunDir
from cluster.waiting import StopFlag, get
from learner.config import SFTConfig
from learner.model_folder import check_model_folder


def base_model(config: RunConfig, run: RunDir, learner: Any, progress: RunProgress, stop: StopFlag) -> Path:
    """Folder of the model to start from: the configured one, or a tiny one built here.

    Raises:
        ModelFolderError: `model.path` is missing or incomplete.
    """
    if config.model.path is not None:
        return check_model_folder(config.model.path).absolute()
    with progress.phase("build the tiny model") as phase:
        texts = corpus_of(config.env, config.seed)
        folder = ask_learner(
            learner.build_tiny.remote(config.model.tiny, texts, config.seed, str(run.base_model)),
            "the tiny model to be built",
            config.learner.update_timeout_s,
            stop=stop,
        )
        phase.summarize(f"{config.model.tiny.family}, {_parameters(Path(folder)):.2f} M parameters")
    return Path(folder)


def image_token_counts(config: RunConfig, model: Path, learner: Any) -> dict[tuple[int, int], int]:
    """Tokens that the environment's frames take under this model, by frame size."""
    return ask_learner(
        learner.image_tokens.remote(str(model), image_sizes(config.env)),
        "the image processor to count tokens",
        config.learner.update_timeout_s,
    )


def supervised_stage(
    config: RunConfig,
    stage: SFTStageConfig,
    model: Path,
    image_tokens: dict[tuple[int, int], int],
    out_dir: Path,
    learner: Any,
    progress: RunProgress,
    stop: StopFlag,
) -> dict[str, float]:
    """Fine-tune `model` on the scripted expert's demonstrations and write the result to `out_dir`."""
    settings = SFTConfig(**stage.model_dump(exclude={"demonstrations"}))
    demonstrations = stage.demonstrations
    with progress.phase("supervised fine-tuning", total=stage.steps) as phase:
        shown = make_demonstrations(
            config.env, str(model), image_tokens, demonstrations.steps, demonstrations.noise, config.seed
        )
        result = learner.run_sft.remote(
            str(model), [shown.batch], settings, config.learner.compute, config.seed, str(out_dir)
        )
        metrics = ask_learner(
            result,
            "supervised fine-tuning",
            config.learner.update_timeout_s,
            stop=stop,
            meanwhile=lambda: _show_step(learner, phase),
        )
        beyond = f"; {shown.given_up} episode(s) were beyond the expert" if shown.given_up else ""
        loss = f"loss {metrics['first_loss']:.2f} -> {metrics['final_loss']:.3f}"
        phase.summarize(f"{stage.steps} steps, {loss}{beyond}")
    return metrics


def _show_step(learner: Any, phase: Phase) -> None:
    numbers = get(learner.progress.remote(), "progress of the learner")
    loss = numbers.get("loss", math.nan)
    phase.update(int(numbers.get("step", 0)), "" if math.isnan(loss) else f"loss {loss:.3f}")


def _parameters(folder: Path) -> float:
    """Millions of parameters, from the sizes of the float32 weights files."""
    return sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 4e6
