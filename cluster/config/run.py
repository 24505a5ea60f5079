"""The configuration of a run: one typed model per part, composed here, and what follows from several parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from cluster.config.checks import check_run, check_stages
from cluster.config.env import EnvConfig
from cluster.config.mistakes import explain
from cluster.config.part import Part
from cluster.config.processes import LearnerPartConfig, RayConfig, ServersConfig, WorkersConfig
from cluster.config.rollout import EvaluationConfig, RolloutConfig
from cluster.config.stages import SFTStageConfig, Stage, changed, changed_env
from learner.algorithms.config import CRITIC_ALGORITHMS, GROUP_ALGORITHMS
from learner.config import LearnerConfig
from learner.tiny.config import TinyVLMConfig

_EPISODES = 0xE915
"""Sets the draws of training episodes apart from all others of a run's seed."""


class ModelConfig(Part):
    """Which vision-language model is the base."""

    path: str | None = None
    """A Hugging Face folder. None: a tiny model is built by `tiny` and the run's seed."""
    tiny: TinyVLMConfig = TinyVLMConfig()


class CheckpointConfig(Part):
    """When the run's state is written to disk."""

    every_updates: int = Field(default=4, ge=1)
    """Updates between two checkpoints; one is written at the start and at the end as well."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay."""


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
    stages: dict[str, Stage] = Field(default_factory=dict)
    """What the run does, by name and in this order (see docs/stages.md); null leaves a stage out. Without any: `sft`,
    then RL for `rollout.updates`."""
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
    def evaluated_env(self) -> EnvConfig:
        """What evaluations play: `env` with the changes of `evaluation.env`."""
        changes = self.evaluation.env if self.evaluation else {}
        return EnvConfig.model_validate(changed_env(self.env.model_dump(), changes)) if changes else self.env

    @property
    def engine(self) -> ServersConfig:
        """`servers` as they are built: what follows from other keys is filled in."""
        derived = {
            "deterministic": self.deterministic,
            "seed": self.seed,
            "adapter_slots": max(self.servers.adapter_slots, self.learner.max_staleness + 2),
            "vision_adapters": self.learner.lora.targets != "language",
            "max_images_per_prompt": max(
                self.servers.max_images_per_prompt,
                self.env.max_images_per_prompt,
                self.evaluated_env.max_images_per_prompt,
            ),
        }
        return self.servers.model_copy(update=derived)

    @property
    def method(self) -> LearnerConfig:
        """`learner` as the learner takes it: without its placement, with the lambda of each mixture component."""
        own = {name: part.thought_weight for name, part in self.env.mixture.items() if part.thought_weight is not None}
        values: dict[str, Any] = {name: getattr(self.learner, name) for name in LearnerConfig.model_fields}
        values["ppo"] = self.learner.ppo.model_copy(update={"thought_weights": self.learner.ppo.thought_weights | own})
        return LearnerConfig(**values)

    @property
    def chunk_size(self) -> int:
        """Steps, or episodes, that a worker of an asynchronous run delivers at a time: a divisor of an update's."""
        rollout = self.rollout
        if self.learner.algorithm in CRITIC_ALGORITHMS:
            total, unit, wanted = rollout.steps_per_update, 1, rollout.chunk_steps
        else:
            total, wanted = rollout.episodes_per_update, None
            unit = rollout.group_size if self.learner.algorithm in GROUP_ALGORITHMS else 1
        share = wanted or max(unit, total // self.workers.count)
        return max(size for size in range(unit, share + 1, unit) if total % size == 0)

    def episode_seeds(self, update: int, stage: int = 0) -> list[int]:
        """Reset seeds of the episodes of one update, of which those of a group are equal; without a critic only."""
        rollout = self.rollout
        size = rollout.group_size if self.learner.algorithm in GROUP_ALGORITHMS else 1
        return self.group_seeds(rollout.episodes_per_update, size, update, stage)

    def group_seeds(self, episodes: int, size: int, update: int, stage: int = 0) -> list[int]:
        """Reset seeds of `episodes` episodes in groups of `size` equal ones; others for every update and stage."""
        place = [update, stage] if stage else [update]
        drawn = np.random.default_rng([self.seed, _EPISODES, *place]).integers(2**30, size=episodes // size)
        return [int(seed) for seed in drawn for _ in range(size)]

    def of_stage(self, name: str) -> RunConfig:
        """The configuration under which a stage runs: with its changes, and without stages.

        Raises:
            pydantic.ValidationError: The changes do not fit.
        """
        values = self.model_dump() | {"stages": {}, "sft": None}
        return RunConfig.model_validate(changed(values, self.stages[name]))

    @field_validator("stages", mode="before")
    @classmethod
    def _without_null(cls, stages: Any) -> Any:
        """`stages.NAME=null` leaves that stage out."""
        return {k: v for k, v in stages.items() if v is not None} if isinstance(stages, dict) else stages

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        try:
            self.evaluated_env  # noqa: B018 (made to see whether it can be)
        except ValidationError as error:
            told = "; ".join(explain(mistake, EnvConfig) for mistake in error.errors())
            raise ValueError(f"evaluation.env: {told}") from error
        check_run(self)
        for name in self.stages:
            try:
                self.of_stage(name)
            except ValidationError as error:
                told = "; ".join(explain(mistake, RunConfig) for mistake in error.errors())
                raise ValueError(f"stages.{name}: {told}") from error
        check_stages(self)
        return self
