"""Configuration of what is played: one environment, or a mixture of them, each in its own variant of language."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from cluster.config.part import Part
from envs.mixture import check_component_name
from envs.switches import PromptSwitches


class PromptConfig(Part):
    """Variant of a task's language; which switches a task honours is said where one does not fit."""

    rules: bool = True
    """The prompt tells the rules and the form of the answer. Off: the state alone, for a fine-tuned model."""
    thoughts: bool = True
    """The response reasons before it acts; with key_state=false as well it is the action alone."""
    key_state: bool = True
    """The response states what the picture shows in fields of their own."""
    formula: bool = True
    """The prompt tells the formula so far (EZPoints, Points24)."""
    text_only: bool = False
    """No picture: the prompt tells the state in words."""
    marks: str | None = None
    """`module:function` that draws on every picture, e.g. envs.marks:grid."""
    memory: int | None = Field(default=None, ge=0)
    """Past (observation, action) pairs in the prompt. None: the task's own default (ALFWorld 2, else 0)."""
    memory_frames: bool = False
    """Show the pictures of the remembered states too; needs `memory`."""

    @model_validator(mode="after")
    def _fit_together(self) -> PromptConfig:
        self.switches()  # raises where two of them contradict each other
        return self

    def switches(self) -> PromptSwitches:
        """The same in the words of `envs`, where the meaning of each switch is told in full."""
        return PromptSwitches(**self.model_dump())


class SingleEnvConfig(Part):
    """One environment."""

    id: str = "gym_cards/NumberLine-v0"
    """A registered id, or `module:EnvClass` of a user's own environment."""
    adapter: str | None = None
    """`module:AdapterClass`. None: the one registered with the id, or the one in the environment's own module."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the environment's constructor."""
    prompt: PromptConfig = PromptConfig()


class ComponentConfig(SingleEnvConfig):
    """One environment of a mixture."""

    weight: float = Field(default=1.0, ge=0.0)
    """Share of the episodes, relative to the other components' weights."""
    thought_weight: float | None = Field(default=None, ge=0.0, le=1.0)
    """lambda for this component's rows. None: `learner.ppo.thought_weight`."""


class EnvConfig(SingleEnvConfig):
    """Which environment is played, or which mixture of environments."""

    mixture: dict[str, ComponentConfig] = Field(default_factory=dict)
    """Components by name; with any, the keys above are not used. Episodes are drawn by weight."""

    @model_validator(mode="after")
    def _one_or_many(self) -> EnvConfig:
        if not self.mixture:
            return self
        # Values and not the keys that were set: a saved configuration sets them all.
        usual = SingleEnvConfig()
        for key in ("adapter", "kwargs", "prompt"):
            if getattr(self, key) != getattr(usual, key):
                raise ValueError(f"env.{key} has no effect beside env.mixture: set it for each component")
        for name in self.mixture:
            check_component_name(name)
        if not any(component.weight for component in self.mixture.values()):
            raise ValueError("env.mixture has no component with a weight above 0, so no episode can be drawn")
        return self

    @property
    def label(self) -> str:
        """Short name for tables: the id, or the names of the components."""
        return "+".join(self.mixture) if self.mixture else self.id

    @property
    def components(self) -> dict[str, SingleEnvConfig]:
        """Every environment that is played, by its place in the configuration: those of the mixture, or this one."""
        return {f"env.mixture.{name}": one for name, one in self.mixture.items()} or {"env": self}

    @property
    def max_images_per_prompt(self) -> int:
        """Pictures in the longest prompt: the present one, and the remembered ones where they are shown."""
        return 1 + max((c.prompt.memory or 0) if c.prompt.memory_frames else 0 for c in self.components.values())
