"""Every algorithm by name: which advantages it pairs with which policy loss. Adding one is adding an entry.

| name      | advantages                                   | loss                     |
|-----------|----------------------------------------------|--------------------------|
| ppo       | critic, GAE                                  | clipped, per response    |
| vl_dac    | critic, GAE                                  | clipped, per token       |
| reinforce | rewards to come minus their mean             | score, per response      |
| rloo      | episode minus the others of its group        | score, per response      |
| grpo      | episode relative to its group                | clipped, per token       |
| gigpo     | the same, and steps relative to their state  | clipped, per token       |

Sources and readings stand with the estimators and losses, and in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from learner.algorithms.anchor_states import AnchorStateAdvantages
from learner.algorithms.base import Algorithm
from learner.algorithms.critic import CriticAdvantages
from learner.algorithms.group_relative import GroupRelativeAdvantages, LeaveOneOutAdvantages
from learner.algorithms.monte_carlo import MonteCarloAdvantages
from learner.algorithms.response_loss import ClippedResponseLoss, ResponseScoreLoss
from learner.algorithms.token_loss import ClippedTokenLoss
from learner.config import LearnerConfig
from learner.importance import Correction
from learner.moving_average import MovingAverages


def build_algorithm(config: LearnerConfig) -> Algorithm:
    """The configured algorithm, with an empty memory."""
    return ALGORITHMS[config.algorithm](config)


def _ppo(config: LearnerConfig) -> Algorithm:
    return Algorithm(_critic(config), _clipped_response(config), has_critic=True)


def _vl_dac(config: LearnerConfig) -> Algorithm:
    return Algorithm(_critic(config), _clipped_tokens(config), has_critic=True)


def _reinforce(config: LearnerConfig) -> Algorithm:
    ppo = config.ppo
    estimate = MonteCarloAdvantages(ppo.gamma, ppo.reward_scale, ppo.normalize_advantages)
    return Algorithm(estimate, ResponseScoreLoss(_correction(config)), has_critic=False)


def _rloo(config: LearnerConfig) -> Algorithm:
    estimate = LeaveOneOutAdvantages(config.ppo.gamma, config.ppo.reward_scale)
    return Algorithm(estimate, ResponseScoreLoss(_correction(config)), has_critic=False)


def _grpo(config: LearnerConfig) -> Algorithm:
    kind = config.grpo.normalization
    memory = MovingAverages(config.grpo.smoothing) if kind == "task" else None
    estimate = GroupRelativeAdvantages(config.ppo.gamma, config.ppo.reward_scale, kind == "group", memory)
    return Algorithm(estimate, _clipped_tokens(config), has_critic=False, memory=memory)


def _gigpo(config: LearnerConfig) -> Algorithm:
    ppo, own = config.ppo, config.gigpo
    estimate = AnchorStateAdvantages(ppo.gamma, ppo.reward_scale, own.step_weight, own.normalization == "group")
    return Algorithm(estimate, _clipped_tokens(config), has_critic=False)


ALGORITHMS: Mapping[str, Callable[[LearnerConfig], Algorithm]] = {
    "ppo": _ppo,
    "vl_dac": _vl_dac,
    "reinforce": _reinforce,
    "rloo": _rloo,
    "grpo": _grpo,
    "gigpo": _gigpo,
}
"""The names of `learner.algorithms.config.AlgorithmName`."""


def _critic(config: LearnerConfig) -> CriticAdvantages:
    ppo = config.ppo
    return CriticAdvantages(
        ppo.gamma,
        ppo.gae_lambda,
        ppo.reward_scale,
        ppo.normalize_advantages,
        config.compute.micro_batch_tokens,
        ppo.bootstrap_truncated,
    )


def _clipped_response(config: LearnerConfig) -> ClippedResponseLoss:
    return ClippedResponseLoss(config.ppo.clip, config.ppo.max_ratio, _correction(config))


def _clipped_tokens(config: LearnerConfig) -> ClippedTokenLoss:
    own = config.token_loss
    return ClippedTokenLoss(config.ppo.clip, config.ppo.max_ratio, own.weights, own.reduction, _correction(config))


def _correction(config: LearnerConfig) -> Correction | None:
    mode = config.correction.mode
    if mode in ("auto", "off", "metrics"):
        return None
    return Correction(mode, config.correction.threshold)
