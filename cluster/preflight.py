"""Everything that can be found wrong with a run before a process is started or anything heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from cluster.alfworld_scenes import generate_scenes
from cluster.config import RunConfig, load_config
from cluster.model_stage import env_maker
from cluster.placement import check_fits, demand_of, local_gpus
from cluster.progress import RunProgress
from cluster.ray_session import resolve_address
from cluster.run_dir import RunDir
from learner.model_folder import check_model_folder
from protocol.errors import ConfigError, ModelFolderError

FIXED_ON_RESUME = ("env", "model", "seed", "deterministic", "learner")
"""Keys that must be the same when a run goes on: the checkpoint means nothing under others."""


def check_before_start(config: RunConfig, progress: RunProgress | None = None) -> None:
    """Refuse a run that cannot work; what its environment needs on disk is made, with `progress` shown.

    Raises:
        ConfigError, ModelFolderError, PlacementError, envs.errors.EnvError: What is wrong, and the cure.
    """
    if config.model.path is not None:
        check_model_folder(config.model.path)
    _check_adapter_targets(config)
    generate_scenes(config.env, progress or RunProgress())
    env, _ = env_maker(config.env)()
    env.close()
    if resolve_address(config.ray) is None:
        demand = demand_of(config)
        # A private cluster has as many logical CPUs as the run needs; GPUs cannot be made up.
        check_fits(demand, float("inf"), local_gpus() if demand.gpus else 0, where="this machine")


def check_same_run(config: RunConfig, run: RunDir) -> None:
    """Refuse to go on with a run under other settings than its checkpoint was written with.

    Raises:
        ConfigError: Names the keys.
    """
    saved = load_config(run.config)
    changed = [key for key in FIXED_ON_RESUME if getattr(saved, key) != getattr(config, key)]
    if changed:
        raise ConfigError(
            f"{run.root} was started with another {', '.join(changed)}.",
            f"resume with the run's own configuration: croupier train {run.config} resume={run.root}",
        )


def _check_adapter_targets(config: RunConfig) -> None:
    """vLLM (0.32) dies on a LLaVA adapter that reaches beyond the language model."""
    targets = config.learner.lora.targets
    if targets == "language" or config.servers.kind != "vllm":
        return
    if config.model.path is None:
        family: str = config.model.tiny.family
    else:
        family = _family(Path(config.model.path) / "config.json")
    if family.startswith("llava"):
        raise ConfigError(
            f"learner.lora.targets is {targets!r}; vLLM serves LLaVA adapters for the language model only.",
            "set learner.lora.targets=language, or servers.kind=transformers",
        )


def _family(file: Path) -> str:
    try:
        return str(json.loads(file.read_text())["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"{file} names no model_type: {error!r}.", "save the model with save_pretrained"
        ) from error
