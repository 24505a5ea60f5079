"""The run configuration: one typed model per part, composed here, filled from defaults < YAML < command line.

Reading a configuration loads neither torch nor vLLM nor Ray, so that a mistake is reported at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_origin

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, ValidationError, model_validator
from yaml import YAMLError

from actors.config import ServerConfig
from cluster.config_part import Part
from cluster.env_config import EnvConfig
from learner.algorithms.config import GROUP_ALGORITHMS
from learner.config import LearnerConfig, SFTConfig
from learner.tiny.config import TinyVLMConfig
from protocol.errors import ConfigError

_EPISODES = 0xE915
"""Sets the draws of training episodes apart from all others of a run's seed."""


class ModelConfig(Part):
    """Which vision-language model is the base."""

    path: str | None = None
    """A Hugging Face folder. None: a tiny model is built by `tiny` and the run's seed."""
    tiny: TinyVLMConfig = TinyVLMConfig()


class DemonstrationConfig(Part):
    """What supervised fine-tuning learns from."""

    steps: int = Field(default=2000, ge=1)
    """Environment steps of the scripted expert."""
    noise: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability that a demonstrated action is a random legal one. Perception and format stay right."""


class SFTStageConfig(SFTConfig):
    """The supervised stage: its data, and how it is learnt."""

    demonstrations: DemonstrationConfig = DemonstrationConfig()


class RolloutConfig(Part):
    """How much is sampled between two updates, and how."""

    updates: int = Field(default=12, ge=0)
    """Policy updates of the RL stage; 0 skips it."""
    steps_per_update: int = Field(default=512, ge=1)
    """Environment steps per update, over all workers."""
    episodes_per_update: int = Field(default=64, ge=1)
    """Whole episodes per update, over all workers, in place of `steps_per_update` for algorithms without a critic."""
    group_size: int = Field(default=8, ge=2)
    """Episodes that begin in one state, for algorithms that compare such; must divide `episodes_per_update`."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Sampling temperature; log-probs are those of the tempered distribution."""
    max_tokens: int = Field(default=64, ge=1)
    """Longest response, in tokens."""


class WorkersConfig(Part):
    """Rollout workers: CPU processes that step environments."""

    count: int = Field(default=2, ge=1)
    """Worker processes."""
    envs_per_worker: int = Field(default=32, ge=1)
    """Environments that a worker steps concurrently."""
    cpus_per_worker: float = Field(default=1.0, ge=0.0)
    """CPU share that Ray reserves for a worker (in local mode only a label)."""
    max_restarts: int = Field(default=3, ge=0)
    """How often each worker may be restarted before the run fails."""
    max_memory_mb: int | None = Field(default=2048, ge=1)
    """A worker that takes more after a rollout, in MB (10^6 bytes), is started anew and goes on where it was:
    environments may leak. That is not counted as a restart. None: no limit."""
    rollout_timeout_s: float = Field(default=3600.0, gt=0.0)
    """Longest wait for one rollout or one evaluation panel, in seconds."""


class ServersConfig(ServerConfig):
    """Inference servers: how many, and how each is built."""

    count: int = Field(default=1, ge=1)
    """Server processes."""
    gpus: float = Field(default=0.0, ge=0.0, le=1.0)
    """GPUs of one tensor-parallel rank; below 1 shares a card (with the learner, in one-GPU mode), 0 is CPU."""
    max_restarts: int = Field(default=2, ge=0)
    """How often each server may be restarted before the run fails."""

    @property
    def patience_s(self) -> float:
        """How long a worker waits for a response: a server may be rebuilt meanwhile."""
        return self.start_timeout_s + self.request_timeout_s


class LearnerPartConfig(LearnerConfig):
    """The learner, and what it runs on."""

    gpus: float = Field(default=0.0, ge=0.0)
    """GPUs of the learner; below 1 shares a card, 0 is CPU."""
    update_timeout_s: float = Field(default=3600.0, gt=0.0)
    """Longest wait for one update or one stage of the learner, in seconds."""


class EvaluationConfig(Part):
    """The evaluation program that runs before and after RL."""

    episodes: int = Field(default=200, ge=1, le=1_000_000)
    """Episodes for each mode (greedy, sampled)."""
    seed: int = Field(default=1_000_000, ge=0)
    """Names the panel: equal seeds are equal initial states, whatever was trained."""


class CheckpointConfig(Part):
    """When the run's state is written to disk."""

    every_updates: int = Field(default=4, ge=1)
    """Updates between two checkpoints; one is written at the start and at the end as well."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay."""


class RayConfig(Part):
    """Where Ray is."""

    address: str = "auto"
    """`auto`: the cluster that RAY_ADDRESS names or that a job runs in, else a private local one; `local`: always a
    private local one; anything else is a cluster address."""
    start_timeout_s: float = Field(default=120.0, gt=0.0)
    """How long placing the processes may take, in seconds."""


class TrackingConfig(Part):
    """Where metrics go beside metrics.jsonl."""

    tensorboard: bool = True
    """Write TensorBoard events into the run directory."""


class RunConfig(Part):
    """Everything a run is made of; `RUN/config.yaml` holds the resolved form."""

    name: str = Field(default="local", pattern=r"^[A-Za-z0-9._-]+$")
    """Folder under `runs_dir`; a number is appended where it exists already."""
    runs_dir: str = "runs"
    """Folder that run directories are made in."""
    seed: int = Field(default=0, ge=0)
    """Of every random draw: tiny model, demonstrations, training, environments, sampling."""
    deterministic: bool = False
    """Same seed, same adapters, bit for bit: needs CPU, one worker and one server."""
    resume: str | None = None
    """Run directory to go on with."""

    env: EnvConfig = EnvConfig()
    model: ModelConfig = ModelConfig()
    sft: SFTStageConfig | None = SFTStageConfig()
    """The supervised stage; null skips it."""
    rollout: RolloutConfig = RolloutConfig()
    workers: WorkersConfig = WorkersConfig()
    servers: ServersConfig = ServersConfig()
    learner: LearnerPartConfig = LearnerPartConfig()
    evaluation: EvaluationConfig | None = EvaluationConfig()
    """Evaluation before and after RL; null skips it."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    ray: RayConfig = RayConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def engine(self) -> ServersConfig:
        """`servers` as they are built: what follows from other keys is filled in."""
        derived = {
            "deterministic": self.deterministic,
            "seed": self.seed,
            "vision_adapters": self.learner.lora.targets != "language",
            "max_images_per_prompt": max(self.servers.max_images_per_prompt, self.env.max_images_per_prompt),
        }
        return self.servers.model_copy(update=derived)

    @property
    def method(self) -> LearnerConfig:
        """`learner` as the learner takes it: without its placement, with the lambda of each mixture component."""
        own = {name: part.thought_weight for name, part in self.env.mixture.items() if part.thought_weight is not None}
        values: dict[str, Any] = {name: getattr(self.learner, name) for name in LearnerConfig.model_fields}
        values["ppo"] = self.learner.ppo.model_copy(update={"thought_weights": self.learner.ppo.thought_weights | own})
        return LearnerConfig(**values)

    def episode_seeds(self, update: int) -> list[int]:
        """Reset seeds of the episodes of one update, of which those of a group are equal; without a critic only."""
        rollout = self.rollout
        size = rollout.group_size if self.learner.algorithm in GROUP_ALGORITHMS else 1
        drawn = np.random.default_rng([self.seed, _EPISODES, update]).integers(
            2**30, size=rollout.episodes_per_update // size
        )
        return [int(seed) for seed in drawn for _ in range(size)]

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        _check_rollout(self)
        _check_adapters(self)
        _check_algorithm(self)
        _check_gpus(self)
        _check_derived(self)
        _check_determinism(self)
        return self


def _check_rollout(config: RunConfig) -> None:
    slots = config.workers.count * config.workers.envs_per_worker
    if config.rollout.steps_per_update < slots:
        raise ValueError(
            f"rollout.steps_per_update is {config.rollout.steps_per_update}, fewer than the {slots} environments "
            "(workers.count * workers.envs_per_worker): raise the former or lower the latter"
        )
    if config.rollout.max_tokens >= config.servers.max_model_len:
        raise ValueError(
            f"rollout.max_tokens is {config.rollout.max_tokens}, which leaves no room for a prompt in "
            f"servers.max_model_len = {config.servers.max_model_len}: lower the former or raise the latter"
        )


def _check_adapters(config: RunConfig) -> None:
    if config.learner.lora.rank > config.servers.max_lora_rank:
        raise ValueError(
            f"learner.lora.rank is {config.learner.lora.rank} but servers.max_lora_rank is "
            f"{config.servers.max_lora_rank}: raise the latter"
        )
    slots_needed = config.learner.max_staleness + 2
    if config.servers.adapter_slots < slots_needed:
        raise ValueError(
            f"servers.adapter_slots is {config.servers.adapter_slots}, learner.max_staleness = "
            f"{config.learner.max_staleness} needs {slots_needed}: raise servers.adapter_slots"
        )


def _check_algorithm(config: RunConfig) -> None:
    rollout = config.rollout
    if config.learner.algorithm in GROUP_ALGORITHMS and rollout.episodes_per_update % rollout.group_size:
        raise ValueError(
            f"rollout.episodes_per_update is {rollout.episodes_per_update}, no multiple of rollout.group_size = "
            f"{rollout.group_size}, which learner.algorithm={config.learner.algorithm} needs: change one of them"
        )


def _check_gpus(config: RunConfig) -> None:
    learner, servers = config.learner.gpus, config.servers
    if learner > 1 and learner != int(learner):
        raise ValueError(f"learner.gpus is {learner:g}: above 1 it must be a whole number")
    if servers.tensor_parallel > 1 and servers.gpus != 1:
        raise ValueError(
            f"servers.tensor_parallel is {servers.tensor_parallel} with servers.gpus = {servers.gpus:g}: a model is "
            "split over whole GPUs; set servers.gpus=1"
        )


def _check_derived(config: RunConfig) -> None:
    """What follows from other keys is not set by itself, or a value would be ignored in silence."""
    for name in sorted(config.learner.ppo.thought_weights.keys() & config.env.mixture.keys()):
        if config.env.mixture[name].thought_weight is not None:
            raise ValueError(
                f"learner.ppo.thought_weights.{name} and env.mixture.{name}.thought_weight set the same number: "
                "leave one out"
            )
    servers = config.servers
    if servers.deterministic and not config.deterministic:
        raise ValueError("servers.deterministic follows deterministic: set deterministic=true instead")
    if servers.seed not in (0, config.seed):
        raise ValueError(f"servers.seed is {servers.seed}, but follows seed: set seed={servers.seed} instead")
    if servers.vision_adapters and config.learner.lora.targets == "language":
        raise ValueError("servers.vision_adapters follows learner.lora.targets: set learner.lora.targets=all instead")


def _check_determinism(config: RunConfig) -> None:
    servers = config.servers
    if not config.deterministic:
        return
    if (config.workers.count, servers.count) != (1, 1):
        raise ValueError(
            f"deterministic needs one worker and one server, not {config.workers.count} and "
            f"{servers.count}: set workers.count=1 servers.count=1"
        )
    if config.learner.gpus or servers.gpus:
        raise ValueError(
            f"deterministic needs CPU, not learner.gpus = {config.learner.gpus:g} and servers.gpus = "
            f"{servers.gpus:g}: set both to 0"
        )


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file and apply `key.sub=value` overrides.

    Raises:
        ConfigError: The file is missing or no YAML mapping, a key is unknown (with the nearest known one), or a value
            is out of bounds; the message names the key, the value and the limit.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in shipped_configs()], n=1)
        hint = f"did you mean cluster/configs/{near[0]}?" if near else f"shipped: {_names(shipped_configs())}"
        raise ConfigError(f"There is no configuration file {str(path)!r}.", hint)
    try:
        loaded = OmegaConf.load(file)
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not readable YAML: {error}", "a configuration is a mapping of keys") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{file} holds a list.", "a configuration is a mapping of keys")
    return _resolve(loaded, overrides, str(file))


def default_config(overrides: Sequence[str] = ()) -> RunConfig:
    """The defaults with `key.sub=value` overrides; raises like `load_config`."""
    return _resolve(OmegaConf.create(), overrides, "the default configuration")


def _resolve(base: DictConfig, overrides: Sequence[str], origin: str) -> RunConfig:
    for override in overrides:
        if not override.partition("=")[1] or not override.partition("=")[0]:
            raise ConfigError(f"Override {override!r} is not of the form key=value.", "write e.g. rollout.updates=20")
    if overrides:
        origin = f"{origin} with {' '.join(overrides)}"
    try:
        merged = OmegaConf.merge(base, OmegaConf.from_dotlist(list(overrides)))
        values: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"{origin}: {error}", "values are YAML: quote what holds any of {}[]:#$") from error
    return parse_config({str(k): v for k, v in values.items()}, origin=origin)


def parse_config(values: dict[str, Any], origin: str = "configuration") -> RunConfig:
    """Validate a nested mapping.

    Raises:
        ConfigError: One line per mistake.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [_explain(e) for e in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(lines), "see cluster/config.py for every key") from error


def save_config(config: RunConfig, path: Path) -> None:
    """Write the resolved configuration as YAML."""
    OmegaConf.save(OmegaConf.create(config.model_dump(mode="json")), path)


def shipped_configs() -> list[Path]:
    """The configurations that come with the package."""
    return sorted((Path(__file__).parent / "configs").glob("*.yaml"))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(f"cluster/configs/{p.name}" for p in paths)


def _explain(error: Any) -> str:
    """One mistake in words: the key, what is wrong, and the value or the nearest known key."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        shown = f" (got {error['input']!r})" if not isinstance(error.get("input"), dict) else ""
        return f"{where or 'configuration'}: {error['msg'].removeprefix('Value error, ')}{shown}"
    known = _known_keys(error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    if not near:
        return f"unknown key {where!r}; known here: {', '.join(known)}"
    return f"unknown key {where!r}, did you mean {'.'.join([*map(str, error['loc'][:-1]), near[0]])!r}?"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that sits at `location`."""
    model: type[BaseModel] = RunConfig
    names_an_entry = False
    for part in location:
        if names_an_entry:  # such as a component of a mixture: the user's name, no key
            names_an_entry = False
            continue
        annotation = model.model_fields[str(part)].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
        names_an_entry = get_origin(annotation) is dict
    return list(model.model_fields)
