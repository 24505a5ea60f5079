"""One PPO update over the rows of admitted trajectories (arXiv 1707.06347, with RL4VLM's weighted log pi).

Knows no queues, files or versions beyond the number it is told; `learner.learner` calls it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch

from learner.batching import collate, microbatches, pad_right
from learner.config import PPOConfig
from learner.losses import (
    approximate_kl,
    explained_variance,
    policy_loss,
    ratio_metrics,
    response_log_probs,
    value_loss,
)
from learner.optimizers import clipped_step, warmup_factor
from learner.policy import Policy
from learner.rows import Rows
from learner.targets import Targets, compute_targets


@dataclass(frozen=True, slots=True, eq=False)
class _Scores:
    """Detached per-row numbers of one or more passes, float32 [B] each."""

    policy_loss: torch.Tensor
    value_loss: torch.Tensor
    log_ratio: torch.Tensor
    kl: torch.Tensor
    thought: torch.Tensor
    action: torch.Tensor
    gap_sum: torch.Tensor
    """Sum over tokens of |log-prob - behaviour log-prob|, in nats."""
    gap_max: torch.Tensor
    index: torch.Tensor
    """int64: which rows."""

    @staticmethod
    def join(parts: list[_Scores]) -> _Scores:
        return _Scores(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(_Scores)))


class PPO:
    """The algorithm and its optimizer.

    Args:
        policy: what is trained.
        config: hyperparameters.
        micro_batch_tokens: padded tokens of one forward pass; gradients do not depend on it.
    """

    def __init__(self, policy: Policy, config: PPOConfig, micro_batch_tokens: int) -> None:
        self._policy = policy
        self._config = config
        self._budget = micro_batch_tokens
        self._adapter = list(policy.adapter_parameters().values())
        self._critic = list(policy.value_parameters().values())
        # AdamW with weight decay 0 is Adam.
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self._adapter, "lr": config.learning_rate},
                {"params": self._critic, "lr": config.value_learning_rate},
            ],
            weight_decay=0.0,
        )

    def update(self, rows: Rows, *, policy_version: int, generator: torch.Generator) -> dict[str, float]:
        """Train on `rows` for the configured epochs.

        Args:
            rows: N >= 1 rows of complete trajectories.
            policy_version: of the weights as they are now; also counts the warm-up.
            generator: shuffles the rows and seeds the dropout.

        Returns:
            Metrics. `ratio_first_minibatch_max_error` (largest |ratio - 1| before the first optimizer step,
            over the rows that this very version sampled) is left out where there are no such rows.

        Raises:
            UpdateDiverged: A loss or gradient was not finite; that step was not applied, earlier ones of this
                update were.
        """
        started_s = time.perf_counter()
        self._policy.backbone.vision.clear()
        targets = compute_targets(self._policy, rows, self._config, self._budget)
        targets_s = time.perf_counter() - started_s
        factor = warmup_factor(policy_version, self._config.warmup_updates)
        self._set_learning_rates(factor)
        history: list[_Scores] = []
        norms: list[dict[str, float]] = []
        stopped_early = False
        dropout_seed = int(torch.randint(2**62, (), generator=generator))
        with self._policy.adapter_dropout(dropout_seed):
            for index in self._minibatches(len(rows), generator):
                scores = self._accumulate(rows, targets, index)
                history.append(scores)
                stopped_early = len(history) > 1 and self._beyond_kl_limit(scores)
                if stopped_early:
                    self.optimizer.zero_grad(set_to_none=True)
                    break
                norms.append(self._step(scores))
        return {
            **_score_metrics(_Scores.join(history), self._config.clip),
            **_first_metrics(history[0], rows, policy_version),
            **_target_metrics(targets),
            "adapter_grad_norm": float(np.mean([n["adapter"] for n in norms])),
            "value_grad_norm": float(np.mean([n["value_head"] for n in norms])),
            "approx_kl_last_minibatch": float(history[-1].kl.mean()),
            "stopped_early": float(stopped_early),
            "optimizer_steps": float(len(norms)),
            "learning_rate": self._config.learning_rate * factor,
            "targets_s": targets_s,
            "update_s": time.perf_counter() - started_s,
        }

    def _set_learning_rates(self, factor: float) -> None:
        rates = (self._config.learning_rate, self._config.value_learning_rate)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor

    def _minibatches(self, count: int, generator: torch.Generator) -> Iterator[np.ndarray]:
        """Row indices of every minibatch of every epoch; sizes within an epoch differ by one at most."""
        parts = math.ceil(count / self._config.minibatch_size)
        for _ in range(self._config.epochs):
            shuffled = torch.randperm(count, generator=generator)
            yield from (part.numpy() for part in shuffled.tensor_split(parts))

    def _beyond_kl_limit(self, scores: _Scores) -> bool:
        limit = self._config.kl_early_stop
        return limit is not None and float(scores.kl.mean()) > limit

    def _accumulate(self, rows: Rows, targets: Targets, index: np.ndarray) -> _Scores:
        """Add the gradient of one minibatch's mean loss, microbatch by microbatch."""
        parts = []
        for group in microbatches(rows.lengths, index, self._budget):
            loss, scores = self._losses(rows, targets, group)
            (loss / len(index)).backward()
            parts.append(scores)
        return _Scores.join(parts)

    def _losses(self, rows: Rows, targets: Targets, group: np.ndarray) -> tuple[torch.Tensor, _Scores]:
        """Loss summed over the rows of `group` (a scalar with gradient), and the rows' numbers."""
        device = self._policy.backbone.device
        batch = collate(rows, group, self._policy.backbone.pad_id).to(device)
        behavior = pad_right([rows.behavior_log_probs[i] for i in group], np.dtype(np.float32))[0].to(device)
        roles = pad_right([rows.roles[i] for i in group], np.dtype(np.int8))[0].to(device)
        index = torch.from_numpy(group)
        old_values, advantages, returns = (
            t[index].to(device) for t in (targets.old_values, targets.advantages, targets.returns)
        )
        evaluation = self._policy.evaluate(batch)
        weight = self._config.thought_weight
        new = response_log_probs(evaluation.log_probs, roles, batch.response_mask, weight)
        old = response_log_probs(behavior, roles, batch.response_mask, weight)
        log_ratio = new.weighted - old.weighted
        policy = policy_loss(log_ratio, advantages, clip=self._config.clip, max_ratio=self._config.max_ratio)
        value = value_loss(evaluation.values, old_values, returns, value_clip=self._config.value_clip)
        gap = (evaluation.log_probs - behavior).abs() * batch.response_mask
        loss = (policy + self._config.value_coefficient * value).sum()
        numbers = {
            "policy_loss": policy,
            "value_loss": value,
            "log_ratio": log_ratio,
            "kl": approximate_kl(evaluation.log_probs, behavior, batch.response_mask),
            "thought": new.thought,
            "action": new.action,
            "gap_sum": gap.sum(-1),
            "gap_max": gap.amax(-1),
        }
        return loss, _Scores(**{name: n.detach().cpu() for name, n in numbers.items()}, index=index)

    def _step(self, scores: _Scores) -> dict[str, float]:
        loss = scores.policy_loss.mean() + self._config.value_coefficient * scores.value_loss.mean()
        groups = [("adapter", self._adapter), ("value_head", self._critic)]
        return clipped_step(self.optimizer, groups, max_norm=self._config.max_grad_norm, loss=float(loss))


def _score_metrics(scores: _Scores, clip: float) -> dict[str, float]:
    """Means over every row of every pass of the update."""
    return {
        "policy_loss": float(scores.policy_loss.mean()),
        "value_loss": float(scores.value_loss.mean()),
        "approx_kl": float(scores.kl.mean()),
        "thought_log_prob": float(scores.thought.mean()),
        "action_log_prob": float(scores.action.mean()),
        **ratio_metrics(scores.log_ratio, clip=clip),
    }


def _first_metrics(first: _Scores, rows: Rows, policy_version: int) -> dict[str, float]:
    """What the first minibatch says about the fit of sampler and learner, before any optimizer step."""
    tokens = sum(len(rows.responses[i]) for i in first.index.tolist())
    current = torch.from_numpy(rows.policy_versions == policy_version)[first.index]
    metrics = {
        "behavior_log_prob_gap_mean": float(first.gap_sum.sum()) / tokens,
        "behavior_log_prob_gap_max": float(first.gap_max.max()),
    }
    if bool(current.any()):
        error = torch.expm1(first.log_ratio[current]).abs().max()
        metrics["ratio_first_minibatch_max_error"] = float(error)
    return metrics


def _target_metrics(targets: Targets) -> dict[str, float]:
    return {
        "explained_variance": explained_variance(targets.old_values, targets.returns),
        "value_mean": float(targets.old_values.mean()),
        "return_mean": float(targets.returns.mean()),
    }
