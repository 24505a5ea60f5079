"""Every setting of the learner, with its unit, its bounds and its default: the only home of those numbers.

Light to import (no torch): the command line reads it before anything heavy is loaded. Components take plain
values, never one of these models.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Literal["language", "language+projector", "all"]
"""Which parts of a vision-language model: the text model; it and the projector to it; these and the vision
tower."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LoraConfig(_Settings):
    """The adapter that RL trains (arXiv 2106.09685)."""

    rank: int = Field(default=16, ge=1, le=512)
    """Inner width of every adapter matrix pair. RL4VLM used 128."""

    alpha: int = Field(default=32, ge=1)
    """Scale: an adapter adds alpha / rank times its product. RL4VLM used 256."""

    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout on the adapter's input in gradient passes. Above 0 the first importance ratio of an update is
    no longer 1, because the sampler has no dropout. RL4VLM used 0.05."""

    targets: Scope = "language"
    """Which linear layers get an adapter; the output layer never does. Anything beyond `language` makes the
    vision features change with the adapter, so that they are computed in every pass instead of once per
    update."""


class PPOConfig(_Settings):
    """The policy update. Defaults follow RL4VLM (arXiv 2405.10292) unless a field says otherwise."""

    gamma: Fraction = 0.9
    """Discount of one environment step."""

    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation; unrelated to `thought_weight`."""

    clip: float = Field(default=0.1, gt=0.0, lt=1.0)
    """The importance ratio is clipped to [1 - clip, 1 + clip]."""

    value_coefficient: float = Field(default=0.5, ge=0.0)
    """Weight of the value loss, which itself is half the squared error."""

    value_clip: Positive | None = None
    """Bound on how far a value may move from its old value and still be pushed on, in units of scaled return.
    None is off; RL4VLM used 0.1, which stops value learning where returns are of size 10."""

    thought_weight: Fraction = 0.5
    """RL4VLM's lambda: weight of the thought tokens' log-probs in log pi."""

    epochs: int = Field(default=4, ge=1)
    """Passes over the rows of one update."""

    minibatch_size: int = Field(default=128, ge=1)
    """Rows of one optimizer step; an update's rows are split evenly into minibatches of at most this size."""

    normalize_advantages: bool = True
    """Shift and scale the advantages of one update to mean 0 and standard deviation 1."""

    kl_early_stop: Positive | None = None
    """Stop an update before the optimizer step whose minibatch shows a larger mean KL divergence per response
    from the behaviour policy, in nats. The first step is always made. None is off."""

    max_ratio: float | None = Field(default=10.0, gt=1.0)
    """A row whose importance ratio exceeds this gives no policy gradient, whatever its advantage. None is
    off."""

    learning_rate: Positive = 1e-5
    """Adam's step size for the adapter."""

    value_learning_rate: Positive = 1e-3
    """Adam's step size for the value head."""

    warmup_updates: int = Field(default=0, ge=0)
    """Updates with a reduced learning rate: update n (from 0) runs at (n + 1) / (warmup_updates + 1) of the
    full."""

    max_grad_norm: Positive = 1.0
    """Limit on the gradient's Euclidean norm; adapter and value head are clipped apart. RL4VLM asked for
    0.01, but its launcher did not clip."""

    value_gradient_to_backbone: bool = False
    """Whether the value loss trains the adapter too. True in RL4VLM."""

    value_hidden_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (256,)
    """Widths of the value head's hidden layers, in units. RL4VLM used (1024, 512)."""

    reward_scale: Positive = 1.0
    """Factor on every reward before returns are formed; keeps the critic's targets near 1."""

    @model_validator(mode="after")
    def _check_ratio_bounds(self) -> Self:
        if self.max_ratio is not None and self.max_ratio <= 1 + self.clip:
            raise ValueError(
                f"max_ratio {self.max_ratio} must exceed 1 + clip = {1 + self.clip}: raise max_ratio or lower clip"
            )
        return self


class SFTConfig(_Settings):
    """Supervised fine-tuning of the base weights on demonstrations."""

    steps: int = Field(default=100, ge=1)
    """Optimizer steps."""

    batch_size: int = Field(default=64, ge=1)
    """Demonstration rows of one optimizer step."""

    learning_rate: Positive = 2e-5
    """AdamW's step size. 2e-5 suits a pretrained 7B model, 2e-3 a tiny one trained from scratch."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: held, or lowered along half a cosine to 0 at the last step."""

    warmup_steps: int = Field(default=30, ge=0)
    """Steps over which the learning rate rises linearly."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """AdamW's decay rates of the first and second moment."""

    weight_decay: float = Field(default=0.01, ge=0.0)
    """AdamW's decoupled weight decay."""

    max_grad_norm: Positive = 1.0
    """Limit on the gradient's Euclidean norm."""

    trainable: Scope = "all"
    """Which weights are trained. A pretrained vision tower is usually left frozen (`language+projector`)."""


class ComputeConfig(_Settings):
    """How the arithmetic is done; the method does not depend on it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model lives; `auto` takes a GPU if there is one."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the base weights and of the forward pass. Adapter, value head, log-probs and losses are float32
    in either case."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch in this process; None leaves torch's setting alone."""

    micro_batch_tokens: int = Field(default=4096, ge=1)
    """Padded tokens of one forward pass; minibatches beyond it are accumulated. A single longer row is a pass
    of its own."""

    frame_cache_frames: int = Field(default=1024, ge=1)
    """Frames whose processed pixels, and whose vision features, are kept in memory."""


class LearnerConfig(_Settings):
    """Everything under `learner.` in a run's configuration."""

    lora: LoraConfig = LoraConfig()
    """The adapter."""

    ppo: PPOConfig = PPOConfig()
    """The RL update."""

    compute: ComputeConfig = ComputeConfig()
    """Device, precision and memory."""

    max_staleness: int = Field(default=0, ge=0)
    """How many policy versions a trajectory's oldest row may lie behind the learner's and still be trained
    on."""

    kept_rejections: int = Field(default=100, ge=0)
    """Refused trajectories that are kept for inspection; older ones make room."""
