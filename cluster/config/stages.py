"""Configuration of stages: what a run does one after the other, and what each of them changes in the run's settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cluster.config.part import Part
from learner.config import SFTConfig
from learner.stage_settings import DPOConfig, PairConfig, SelectionConfig

Changes = dict[str, Any]
"""Keys of one part of the run's configuration, nested as there; they count for one stage."""

CHANGEABLE = ("env", "rollout", "learner", "evaluation")
"""The parts that a stage may change. Processes (workers, servers, placement) are those of the whole run."""


class DemonstrationConfig(Part):
    """What supervised fine-tuning learns from."""

    steps: int = Field(default=2000, ge=1)
    """Environment steps of the scripted expert."""
    noise: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability that a demonstrated action is a random legal one. Perception and format stay right."""
    mistakes: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that an action is played which is not legal, so that what follows one is seen (ALFWorld); the
    mistakes themselves are not learnt."""


class SFTStageConfig(SFTConfig):
    """The supervised stage: its data, and how it is learnt."""

    demonstrations: DemonstrationConfig = DemonstrationConfig()


class SamplesConfig(Part):
    """The sampled rows that a stage learns from."""

    source: str | None = None
    """Rows that are there already: those of an earlier stage of this run (its name), or of another run (its folder).
    None: the model plays at the beginning of the stage."""
    episodes: int = Field(default=512, ge=1)
    """Whole episodes that the model plays, at `rollout.temperature`."""
    group_size: int = Field(default=8, ge=1)
    """Episodes that begin in one state; must divide `episodes`."""

    @model_validator(mode="after")
    def _whole_groups(self) -> SamplesConfig:
        if self.episodes % self.group_size:
            raise ValueError(
                f"episodes is {self.episodes}, no multiple of group_size = {self.group_size}: change one of them"
            )
        return self


class StageChanges(Part):
    """What every stage may change, for itself alone."""

    env: Changes = Field(default_factory=dict)
    """Changes of `env`. With an `id` of its own (or a mixture where the run has none) it is an environment of its own,
    and nothing of the run's `env` remains."""
    rollout: Changes = Field(default_factory=dict)
    """Changes of `rollout`."""
    learner: Changes = Field(default_factory=dict)
    """Changes of `learner`."""
    evaluation: Changes | None = Field(default_factory=dict)
    """Changes of `evaluation`; null: this stage is not evaluated."""


class SFTStage(SFTStageConfig, StageChanges):
    """Supervised fine-tuning of the model, on a scripted expert's demonstrations or on another run's rows."""

    kind: Literal["sft"]
    rows: str | None = None
    """Learn from all rows of an earlier run (its folder) as they are, instead of `demonstrations`."""

    @model_validator(mode="after")
    def _one_kind_of_data(self) -> SFTStage:
        if self.rows is not None and self.demonstrations != DemonstrationConfig():
            raise ValueError("demonstrations have no effect beside rows: leave one of them out")
        return self


class RejectionStage(SFTConfig, StageChanges):
    """Rejection sampling: supervised fine-tuning of the model on its own successes."""

    kind: Literal["rejection"]
    samples: SamplesConfig = SamplesConfig()
    selection: SelectionConfig = SelectionConfig()


class DPOStage(DPOConfig, StageChanges):
    """Direct preference optimisation of the model on right and wrong responses of its own."""

    kind: Literal["dpo"]
    samples: SamplesConfig = SamplesConfig()
    pairs: PairConfig = PairConfig()


class RLStage(StageChanges):
    """Reinforcement learning with `learner.algorithm`, for `rollout.updates` updates."""

    kind: Literal["rl"]
    adapter: Literal["keep", "fresh"] = "keep"
    """Right after another RL stage: go on with its adapter and value head; or merge its adapter into the model and
    begin with a fresh one."""
    optimizer: Literal["keep", "fresh"] = "keep"
    """With a kept adapter: go on with the optimizer's moments and the update's moving averages as well, or begin
    these anew. Schedules count on in either case."""


Stage = Annotated[SFTStage | RejectionStage | DPOStage | RLStage, Field(discriminator="kind")]
"""One stage of a run, told apart by its `kind`."""


def changed(values: dict[str, Any], stage: StageChanges) -> dict[str, Any]:
    """The run's configuration, as nested plain values, with what the stage changes."""
    values = dict(values)
    for part in CHANGEABLE:
        changes = getattr(stage, part)
        if changes is None:
            values[part] = None
        elif part == "env":
            values["env"] = changed_env(values["env"], changes)
        elif changes:
            values[part] = _merged(values[part] or {}, changes)
    return values


def changed_env(env: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """`env`, as nested plain values, with changes; these alone where they name another environment."""
    stands_for_itself = "id" in changes or ("mixture" in changes and not env["mixture"])
    return changes if stands_for_itself else _merged(env, changes)


def _merged(values: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """`changes` on top of `values`, mapping by mapping."""
    merged = dict(values)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
