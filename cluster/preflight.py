"""Everything that can be found wrong with a run before a process is started or anything heavy is loaded."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from cluster.alfworld.scenes import generate_scenes
from cluster.config import RunConfig, load_config
from cluster.record.progress import RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.placement import check_fits, demand_of, local_gpus
from cluster.runtime.ray_session import resolve_address
from cluster.stages.base_model import environments_of
from cluster.stages.model import env_maker
from cluster.stages.rows import check_sources
from learner.families.model_types import read_model_config
from learner.model_folder import check_model_folder
from learner.quantization import check_quantization
from protocol.errors import ConfigError

FIXED_ON_RESUME = ("env", "model", "seed", "deterministic", "learner", "stages")
"""Keys that must be the same when a run goes on: the checkpoint means nothing under others."""

FREE_IN_LEARNER = {"count": 1, "gpus": 0.0, "update_timeout_s": 1.0, "collective_timeout_s": 1.0}
"""Where the learner runs, and on how many processes, may change at a resume; so may `learner.compute.sharding`."""

FREE_IN_STAGES = {"rollout": {}, "evaluation": {}}
"""What stages may change at a resume, as the run may."""


PROBED_EPISODES = 20
"""Episodes whose first state is looked at for something to read; in a mixture some have nothing."""


def check_before_start(config: RunConfig, progress: RunProgress | None = None) -> None:
    """Refuse a run that cannot work; what its environment needs on disk is made, with `progress` shown.

    Raises:
        ConfigError, ModelFolderError, PlacementError, envs.errors.EnvError: What is wrong, and the cure.
    """
    if config.model.path is not None:
        check_model_folder(config.model.path)
    check_quantization(config.learner.compute)
    _check_adapter_targets(config)
    check_sources(config)
    played = environments_of(config)
    for env in [*played, *(one.evaluated_env for _, one in _parts(config) if one.evaluated_env not in played)]:
        generate_scenes(env, progress or RunProgress())
    for key, one in _parts(config):
        _check_env(key, one)
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
    changed = [key for key in FIXED_ON_RESUME if _fixed(saved, key) != _fixed(config, key)]
    if changed:
        raise ConfigError(
            f"{run.root} was started with another {', '.join(changed)}.",
            f"resume with the run's own configuration: croupier train {run.config} resume={run.root}",
        )


def _fixed(config: RunConfig, key: str) -> Any:
    if key == "learner":
        compute = config.learner.compute.model_copy(update={"sharding": "none"})
        return config.learner.model_copy(update={**FREE_IN_LEARNER, "compute": compute})
    if key != "stages":
        return getattr(config, key)
    return [(name, stage.model_copy(update=FREE_IN_STAGES)) for name, stage in config.stages.items()]


def _parts(config: RunConfig) -> list[tuple[str, RunConfig]]:
    """The configuration of every stage by its key; that of the run where it names none."""
    return [(f"stages.{name}.", config.of_stage(name)) for name in config.stages] or [("", config)]


def _check_env(key: str, config: RunConfig) -> None:
    """Make the environment once; where reading the state is paid, it must have something to read."""
    if config.evaluated_env != config.env:
        env_maker(config.evaluated_env)()[0].close()
    env, adapter = env_maker(config.env)()
    with closing(env):
        if not config.rollout.reward.recognition:
            return
        readings = (adapter.recognition(env.reset(seed=seed)[1]) for seed in range(PROBED_EPISODES))
        if not any(readings):
            raise ConfigError(
                f"{key}rollout.reward.recognition is {config.rollout.reward.recognition:g}, but in "
                f"{config.env.label} a response states nothing that only the picture shows.",
                "set it to 0, or let responses state what they see (env.prompt.key_state=true, text_only=false)",
            )


def _check_adapter_targets(config: RunConfig) -> None:
    """vLLM (0.32) dies on a LLaVA adapter that reaches beyond the language model."""
    targets = config.learner.lora.targets
    if targets == "language" or config.servers.kind != "vllm":
        return
    if config.model.path is None:
        family: str = config.model.tiny.family
    else:
        family = read_model_config(Path(config.model.path))["model_type"]
    if family.startswith("llava"):
        raise ConfigError(
            f"learner.lora.targets is {targets!r}; vLLM serves LLaVA adapters for the language model only.",
            "set learner.lora.targets=language, or servers.kind=transformers",
        )
