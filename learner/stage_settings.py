"""Settings of the stages that change the model itself: which rows are learnt from, and how preferences are.

Light to import (no torch). Supervised fine-tuning has its own in `learner.config`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from learner.settings import Positive, Settings


class SelectionConfig(Settings):
    """Which sampled rows are good enough to be imitated: those of successful whole episodes that name an action."""

    minimum_return: float | None = None
    """Lowest sum of the environment's rewards of an episode that is imitated. None: the task itself says what a
    success is."""

    distinct: bool = True
    """Of equal responses to one state keep one, which favours variety. False keeps them as often as they were said:
    a small model at temperature 1 makes many odd texts, which else weigh as much as the usual one."""

    rows_per_state: int | None = Field(default=4, ge=1)
    """How many responses to one state stay, taken at random. None: all."""

    max_rows: int | None = Field(default=None, ge=1)
    """Limit on all rows, taken at random. None: no limit."""

    balance: bool = True
    """Repeat rows of the environments with fewer of them (components of a mixture, sub-tasks), until all have as
    many."""


class PairConfig(Settings):
    """Which of two responses to one state is right, and how many pairs are made of them."""

    rule: Literal["return", "recognition"] = "return"
    """What makes a response right. `return`: its action, by the rewards to come after it (discounted by
    `learner.ppo.gamma`), averaged over all rows of the state that took this action; the best action of a state is
    right, the others are wrong. `recognition`: that all perception fields are right."""

    margin: float = Field(default=0.0, ge=0.0)
    """How far an action must lie behind the best one to be wrong, in units of reward (`return` only). Averages of a
    few episodes are noisy."""

    pairs_per_state: int = Field(default=8, ge=1)
    """Most pairs of one state, so that frequent states do not outweigh the others."""

    max_pairs: int | None = Field(default=None, ge=1)
    """Limit on all pairs, taken at random. None: no limit."""


class DPOConfig(Settings):
    """Direct preference optimisation (arXiv 2305.18290) of a fresh adapter, which is then merged into the model."""

    beta: Positive = 0.1
    """Strength of the tie to the model before the stage: the reward of a response is beta times its log-ratio."""

    nll_coefficient: float = Field(default=0.0, ge=0.0)
    """Weight of the chosen response's negative log-likelihood per token (arXiv 2404.19733), which keeps both
    likelihoods from falling together."""

    tokens: Literal["all", "action", "thought_weight"] = "all"
    """Which tokens' log-probs are summed: every sampled one; those of the action only; or action tokens in full and
    thought tokens by lambda (`learner.ppo.thought_weight`)."""

    steps: int = Field(default=100, ge=1)
    """Optimizer steps."""

    batch_size: int = Field(default=32, ge=1)
    """Pairs of one optimizer step."""

    learning_rate: Positive = 5e-6
    """Adam's step size for the adapter. 5e-6 suits a pretrained 7B model, 1e-3 a tiny one."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: held, or lowered along half a cosine to 0 at the last step."""

    warmup_steps: int = Field(default=10, ge=0)
    """Steps over which the learning rate rises linearly."""

    max_grad_norm: Positive = 1.0
    """Limit on the gradient's Euclidean norm."""
