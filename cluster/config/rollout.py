"""Configuration of what is sampled: rollouts, what is paid for them, and evaluations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from cluster.config.part import Part


class RewardConfig(Part):
    """What the reward column of a row is made of; success and returns are told in the environment's own rewards."""

    environment: float = 1.0
    """Weight of the environment's reward."""
    recognition: float = 0.0
    """Weight of the share of perception fields that the response states rightly, between 0 and 1 per step."""

    @model_validator(mode="after")
    def _pays_for_something(self) -> RewardConfig:
        if self.environment == self.recognition == 0.0:
            raise ValueError("environment and recognition are both 0, so that nothing is ever paid: raise one of them")
        return self


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
    reward: RewardConfig = RewardConfig()
    """What is paid."""
    chunk_steps: int | None = Field(default=None, ge=1)
    """With learner.max_staleness above 0: environment steps that a worker delivers at a time; must divide
    `steps_per_update`. Null: the largest divisor that is no more than each worker's share of an update."""
    partial_episodes: Literal["cut", "carry"] = "cut"
    """What becomes of episodes that are open when a worker delivers: `cut` delivers what there is, bootstrapped from
    the next state; `carry` waits for their end, unless the next delivery may hold no rows as old as theirs."""


class EvaluationConfig(Part):
    """The evaluation program that runs before and after RL."""

    episodes: int = Field(default=200, ge=1, le=1_000_000)
    """Episodes for each mode (greedy, sampled)."""
    seed: int = Field(default=1_000_000, ge=0)
    """Names the panel: equal seeds are equal initial states, whatever was trained."""
    env: dict[str, Any] = Field(default_factory=dict)
    """Changes of `env` for evaluations alone, such as games that are never trained on: {kwargs: {split: valid_unseen}}.
    With an `id` of its own it is an environment of its own."""
