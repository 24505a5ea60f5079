"""Settings of the policy update: what every algorithm shares (`PPOConfig`), and what is particular to some.

Light to import (no torch). `learner.config` puts these sections together.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from learner.settings import Fraction, Positive, Settings

AlgorithmName = Literal["ppo", "vl_dac", "reinforce", "rloo", "grpo", "gigpo"]
"""Names in `learner.algorithms.registry`."""

CRITIC_ALGORITHMS: frozenset[str] = frozenset({"ppo", "vl_dac"})
"""Those that train the value head; cut and truncated episodes bootstrap from it."""

GROUP_ALGORITHMS: frozenset[str] = frozenset({"rloo", "grpo", "gigpo"})
"""Those that compare whole episodes of one initial state with each other."""

SINGLE_PASS_ALGORITHMS: frozenset[str] = frozenset({"reinforce", "rloo"})
"""Those whose loss is right for the policy that sampled only, so that every row is used once."""

TOKEN_ALGORITHMS: frozenset[str] = frozenset({"vl_dac", "grpo", "gigpo"})
"""Those with the token-level loss, which looks at lambda only with `token_loss.weights=thought_weight`."""


class PPOConfig(Settings):
    """The policy update: the settings that all algorithms share.

    Defaults follow RL4VLM (arXiv 2405.10292) unless a field says otherwise.
    """

    gamma: Fraction = 0.9
    """Discount of one environment step."""

    gae_lambda: Fraction = 0.95
    """Lambda of generalised advantage estimation; unrelated to `thought_weight`."""

    bootstrap_truncated: bool = True
    """What follows the environment's step limit, for the algorithms with a critic: the value of the state that comes
    next, as in a task that goes on; or nothing, as where success *within the limit* is what counts (Pardo et al.,
    arXiv 1712.00378). An episode cut by a full batch always bootstraps. False in RL4VLM."""

    clip: float = Field(default=0.1, gt=0.0, lt=1.0)
    """The importance ratio is clipped to [1 - clip, 1 + clip]."""

    value_coefficient: float = Field(default=0.5, ge=0.0)
    """Weight of the value loss, which itself is half the squared error."""

    value_clip: Positive | None = None
    """Bound on how far a value may move from its old value and still be pushed on, in units of scaled return.
    None is off; RL4VLM used 0.1, which stops value learning where returns are of size 10."""

    thought_weight: Fraction = 0.5
    """RL4VLM's lambda: weight of the thought tokens' log-probs in log pi. Where `thought_weight_rule` moves it,
    its value in the first update."""

    thought_weight_rule: Literal["fixed", "linear", "cosine", "auto"] = "fixed"
    """How lambda goes on from `thought_weight`: not at all; to `thought_weight_final` along a line or half a
    cosine; or, per environment, to where thought and action tokens have equal gradient energy."""

    thought_weight_final: Fraction = 1.0
    """Where `linear` and `cosine` arrive, to stay there."""

    thought_weight_updates: int = Field(default=20, ge=1)
    """Policy updates that `linear` and `cosine` take."""

    thought_weight_minimum: Fraction = 0.05
    """Lowest lambda of `auto`; the highest is 1."""

    thought_weight_smoothing: float = Field(default=0.8, ge=0.0, lt=1.0)
    """Weight of the past in the moving averages of `auto`; 0 looks at the last update alone."""

    thought_weight_probe_rows: int = Field(default=16, ge=0)
    """Rows per update on which `auto` measures gradients of the adapter itself, to correct the cheap energies that it
    has of all rows; two backward passes each. 0 leaves them uncorrected."""

    thought_weights: dict[str, Fraction] = Field(default_factory=dict)
    """Fixed lambda of single environments, whatever the rule: by what a row's `task` says before its first "/", or
    by its `env_id`. `env.mixture.NAME.thought_weight` of a run's configuration ends up here."""

    epochs: int = Field(default=4, ge=1)
    """Passes over the rows of one update."""

    minibatch_size: int = Field(default=128, ge=1)
    """Rows of one optimizer step; an update's rows are split evenly into minibatches of at most this size."""

    normalize_advantages: bool = True
    """Shift and scale the advantages of one update to mean 0 and standard deviation 1. Of no effect on rloo, grpo
    and gigpo, which have baselines and scales of their own."""

    kl_early_stop: Positive | None = None
    """Stop an update before the optimizer step whose minibatch shows a larger mean KL divergence per response
    from the policy that the update started with (or the behaviour policy, without an importance correction), in
    nats. The first step is always made. None is off."""

    max_ratio: float | None = Field(default=10.0, gt=1.0)
    """A row (or token, where the loss is per token) whose importance ratio exceeds this gives no policy gradient,
    whatever its advantage. None is off."""

    entropy_coefficient: float = Field(default=0.0, ge=0.0)
    """Weight of the entropy bonus: mean entropy of a response's token distributions, in nats per token."""

    reference_kl_coefficient: float = Field(default=0.0, ge=0.0)
    """Weight of the KL divergence from the base model (the policy with its adapter switched off), in nats per
    token. Above 0 it costs one more forward pass per update."""

    learning_rate: Positive = 1e-5
    """Adam's step size for the adapter."""

    value_learning_rate: Positive = 1e-3
    """Adam's step size for the value head."""

    warmup_updates: int = Field(default=0, ge=0)
    """Updates with a reduced learning rate: update n (from 0) runs at (n + 1) / (warmup_updates + 1) of the
    full."""

    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Both learning rates after the warm-up: held, or lowered to `learning_rate_final_factor` of the full."""

    learning_rate_updates: int = Field(default=100, ge=1)
    """Update at which a schedule arrives, counted from the first one, warm-up included; it stays there."""

    learning_rate_final_factor: Fraction = 0.0
    """Where a schedule arrives, as a factor on the full rates."""

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
    def _check_bounds(self) -> Self:
        if self.max_ratio is not None and self.max_ratio <= 1 + self.clip:
            raise ValueError(
                f"max_ratio {self.max_ratio} must exceed 1 + clip = {1 + self.clip}: raise max_ratio or lower clip"
            )
        if self.learning_rate_schedule != "constant" and self.learning_rate_updates <= self.warmup_updates:
            raise ValueError(
                f"learning_rate_updates {self.learning_rate_updates} must exceed warmup_updates "
                f"{self.warmup_updates}: raise the former or lower the latter"
            )
        return self


class ImportanceConfig(Settings):
    """Correction for rows that the current weights would not have sampled with the log-probs they carry.

    Two causes: the inference engine rounds differently from the learner, and rows may be of an older policy
    version. With a correction the loss compares three policies (decoupled PPO, arXiv 2110.00641): the importance
    ratio and its clip are taken from the learner's own log-probs at the start of the update, and each loss is
    multiplied by weight = p_start / p_behavior.
    """

    mode: Literal["auto", "off", "metrics", "full", "truncated", "masked"] = "auto"
    """`auto` is `truncated` for the stale rows alone where learner.max_staleness is above 0, else `off`; `metrics`
    measures the weights and changes nothing; `full` multiplies by them; `truncated` cuts them at the threshold;
    `masked` drops what lies outside [1 / threshold, threshold]. All but `off` cost one more forward pass over the
    chosen rows."""

    rows: Literal["all", "stale"] = "all"
    """Which rows are corrected: all, or those of an older policy version only."""

    threshold: float = Field(default=2.0, gt=1.0)
    """Bound of `truncated` and `masked`, on the ratio per response (ppo, reinforce, rloo) or per token."""


class TokenLossConfig(Settings):
    """The token-level policy loss of vl_dac, grpo and gigpo."""

    weights: Literal["all", "action", "thought_weight"] = "all"
    """Which tokens count: every sampled one alike; those of the action only; or action tokens in full, thought
    tokens by lambda, and the others not at all."""

    reduction: Literal["mean", "sum"] = "mean"
    """Weighted mean or sum over a response's tokens. The sum gives long responses more pull (Dr. GRPO, arXiv
    2503.20783)."""


class GRPOConfig(Settings):
    """What is particular to grpo."""

    normalization: Literal["group", "task", "none"] = "group"
    """Divisor of return minus group mean: the group's own standard deviation (arXiv 2402.03300); a moving average
    of it per task (EMA-GRPO, arXiv 2512.03043); or none (Dr. GRPO, arXiv 2503.20783)."""

    smoothing: float = Field(default=0.99, ge=0.0, lt=1.0)
    """Weight of the past in the moving average of `task`, per update."""


class GiGPOConfig(Settings):
    """What is particular to gigpo (arXiv 2505.10978)."""

    step_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the advantage among rows of one state, beside that among episodes."""

    normalization: Literal["group", "none"] = "group"
    """Divisor of both advantages: the standard deviation of what is compared, or none."""


class MonitorConfig(Settings):
    """Watching for collapse: what costs extra passes and is therefore off by default."""

    rows: int = Field(default=0, ge=0)
    """Rows on which the shuffle test measures how far thoughts depend on the picture; 0 is off."""

    every_updates: int = Field(default=10, ge=1)
    """Updates from one shuffle test to the next."""
