"""Every setting of the learner, with its unit, its bounds and its default: the only home of those numbers.

Light to import (no torch): the command line reads it before anything heavy is loaded. Components take plain
values, never one of these models.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from learner.algorithms.config import (
    SINGLE_PASS_ALGORITHMS,
    TOKEN_ALGORITHMS,
    AlgorithmName,
    GiGPOConfig,
    GRPOConfig,
    ImportanceConfig,
    MonitorConfig,
    PPOConfig,
    TokenLossConfig,
)
from learner.settings import Positive, Settings

Scope = Literal["language", "language+projector", "all"]
"""Which parts of a vision-language model: the text model; it and the projector to it; these and the vision
tower."""


class LoraConfig(Settings):
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

    pattern: str | None = None
    """Of the layers in `targets`, those whose whole name matches this regular expression, such as
    `.*(q_proj|v_proj)` or `.*layers[.][0-7][.].*`. None takes all. Names are in docs/models.md; a pattern that matches
    no layer is refused."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return pattern


class SFTConfig(Settings):
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


class ComputeConfig(Settings):
    """How the arithmetic is done; the method does not depend on it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model lives; `auto` takes a GPU if there is one."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the base weights and of the forward pass. Adapter, value head, log-probs and losses are float32
    in either case."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch in this process; None leaves torch's setting alone."""

    micro_batch_tokens: int = Field(default=4096, ge=1)
    """Tokens of one forward pass, padding included, equal prompts of a pass counted once where they are computed once;
    minibatches beyond it are accumulated. A single longer row is a pass of its own."""

    sharding: Literal["none", "fsdp"] = "none"
    """What several learners (`learner.count`) hold of the base weights: each a whole copy, or each its shard of the
    language model (FSDP2), gathered layer by layer in every pass. Of no effect on one learner."""

    quantization: Literal["none", "nf4"] = "none"
    """How RL holds the frozen linear layers of the text model: whole, or in 4 bits (QLoRA, arXiv 2305.14314), which
    needs bitsandbytes. Supervised stages train these weights, and hold them whole. See docs/models.md for what servers
    must be given."""

    packing: bool = True
    """Rows without padding, one after the other, through the text model; only the last layer's states that are read
    are computed. The same function, up to rounding. Families for which nobody has tested it are padded instead."""

    shared_prompts: bool = True
    """With `packing`: rows of one pass that have the same prompt and pictures compute it once."""

    gradient_checkpointing: bool = False
    """Text layers are computed a second time in the backward pass instead of being remembered: less memory, a third
    more work."""

    fused_optimizer: bool = False
    """AdamW by torch's fused kernel, one for all weights: the same steps up to rounding. Worth it on GPUs."""

    frame_cache_frames: int = Field(default=1024, ge=1)
    """Frames whose vision features are kept in memory while the vision part is frozen."""

    pixel_cache_bytes: int = Field(default=256 * 2**20, ge=0)
    """Memory for frames as the image processor made them, compressed without loss: about 18,000 frames of card games
    at 84 pixels. A frame that has left it is decoded and resized again when it is next needed."""

    @model_validator(mode="after")
    def _check_quantization(self) -> Self:
        if self.quantization != "none" and (self.precision != "bfloat16" or self.sharding != "none"):
            raise ValueError(
                f"quantization is {self.quantization} with precision {self.precision} and sharding {self.sharding}: "
                "4-bit weights are computed with in bfloat16 and not sharded; set precision=bfloat16, sharding=none"
            )
        return self


class LearnerConfig(Settings):
    """Everything under `learner.` in a run's configuration."""

    lora: LoraConfig = LoraConfig()
    """The adapter."""

    algorithm: AlgorithmName = "ppo"
    """How advantages are estimated and which policy loss they enter (see docs/method.md). ppo and vl_dac train a
    critic; rloo, grpo and gigpo compare whole episodes of equal initial states; reinforce and rloo make one pass
    over the rows."""

    ppo: PPOConfig = PPOConfig()
    """The policy update, whatever the algorithm."""

    token_loss: TokenLossConfig = TokenLossConfig()
    """The loss of vl_dac, grpo and gigpo."""

    grpo: GRPOConfig = GRPOConfig()
    """What is particular to grpo."""

    gigpo: GiGPOConfig = GiGPOConfig()
    """What is particular to gigpo."""

    importance: ImportanceConfig = ImportanceConfig()
    """Correction between the policy that sampled and the one that learns."""

    monitors: MonitorConfig = MonitorConfig()
    """Measurements beside the update."""

    compute: ComputeConfig = ComputeConfig()
    """Device, precision and memory."""

    max_staleness: int = Field(default=0, ge=0)
    """How many policy versions a trajectory's oldest row may lie behind the learner's and still be trained
    on."""

    @property
    def correction(self) -> ImportanceConfig:
        """`importance` with `auto` decided."""
        if self.importance.mode != "auto":
            return self.importance
        decided = {"mode": "truncated", "rows": "stale"} if self.max_staleness else {"mode": "off"}
        return self.importance.model_copy(update=decided)

    kept_rejections: int = Field(default=100, ge=0)
    """Refused trajectories that are kept for inspection; older ones make room."""

    @model_validator(mode="after")
    def _check_algorithm(self) -> Self:
        name, ppo = self.algorithm, self.ppo
        if name in SINGLE_PASS_ALGORITHMS and ppo.epochs > 1:
            raise ValueError(
                f"algorithm {name} uses every row once, not learner.ppo.epochs = {ppo.epochs} times: "
                "set learner.ppo.epochs=1"
            )
        ignored = name in TOKEN_ALGORITHMS and self.token_loss.weights != "thought_weight"
        if ignored and ppo.thought_weight_rule != "fixed":
            raise ValueError(
                f"learner.ppo.thought_weight_rule = {ppo.thought_weight_rule} has no effect on algorithm {name} with "
                f"learner.token_loss.weights = {self.token_loss.weights}: set learner.token_loss.weights=thought_weight"
            )
        return self
