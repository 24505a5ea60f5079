"""What an update tells about itself: means over its rows, the fit of sampler and learner, and each environment."""

from __future__ import annotations

import numpy as np
import torch

from learner.losses import RATIO_SHARES, explained_variance
from learner.objective import RowNumbers
from learner.rows import Rows
from learner.targets import Targets

_MEANS = {
    "policy_loss": "policy_loss",
    "value_loss": "value_loss",
    "kl": "approx_kl",
    "thought": "thought_log_prob",
    "action": "action_log_prob",
    "thought_weight": "thought_weight",
    "entropy": "entropy",
    "reference_kl": "reference_kl",
    "importance_weight": "importance_weight_mean",
    "importance_responses_outside": "importance_responses_outside",
    "importance_tokens_outside": "importance_tokens_outside",
    "ratio_mean": "ratio_mean",
    **{name: name for name in RATIO_SHARES},
}
"""Row numbers of which the mean over every row of every pass is reported, and the metric's name."""


def score_metrics(numbers: RowNumbers) -> dict[str, float]:
    """Over every row of every pass of the update."""
    metrics = {metric: float(numbers[name].mean()) for name, metric in _MEANS.items() if name in numbers}
    if "importance_weight" in numbers:
        metrics["importance_weight_max"] = float(numbers["importance_weight"].max())
    return metrics | {"ratio_min": float(numbers["ratio_min"].min()), "ratio_max": float(numbers["ratio_max"].max())}


def first_metrics(first: RowNumbers, rows: Rows, policy_version: int) -> dict[str, float]:
    """What the first minibatch says about the fit of sampler and learner, before any optimizer step."""
    tokens = sum(len(rows.responses[i]) for i in first["index"].tolist())
    current = torch.from_numpy(rows.policy_versions == policy_version)[first["index"]]
    metrics = {
        "behavior_log_prob_gap_mean": float(first["gap_sum"].sum()) / tokens,
        "behavior_log_prob_gap_max": float(first["gap_max"].max()),
    }
    if bool(current.any()):
        error = torch.expm1(first["sampler_log_ratio"][current]).abs().max()
        metrics["ratio_first_minibatch_max_error"] = float(error)
    return metrics


def target_metrics(targets: Targets) -> dict[str, float]:
    """What the update aims at."""
    index = torch.from_numpy(targets.trained_rows)
    metrics = {"return_mean": float(targets.returns[index].mean()), **targets.metrics}
    if targets.old_values is not None:
        metrics["explained_variance"] = explained_variance(targets.old_values, targets.returns)
        metrics["value_mean"] = float(targets.old_values.mean())
    return metrics


def component_metrics(numbers: RowNumbers, rows: Rows, targets: Targets) -> dict[str, float]:
    """The main metrics of every environment, as `metric/environment`; empty where there is only one."""
    names = np.array(rows.components)
    distinct = sorted(set(rows.components))
    if len(distinct) < 2:
        return {}
    trained = np.zeros(len(rows), dtype=bool)
    trained[targets.trained_rows] = True
    found: dict[str, float] = {}
    for name in distinct:
        own = names == name
        metrics = {"rows": float(own.sum()), "reward_mean": float(rows.rewards[own].mean())}
        metrics["invalid_rate"] = float(1 - rows.legal[own].mean())
        index = torch.from_numpy(np.flatnonzero(own & trained))
        if len(index):
            metrics["return_mean"] = float(targets.returns[index].mean())
            if targets.old_values is not None:
                metrics["explained_variance"] = explained_variance(targets.old_values[index], targets.returns[index])
            chosen = torch.from_numpy(own)[numbers["index"]]
            metrics |= _some({n: v[chosen] for n, v in numbers.items()})
        found |= {f"{metric}/{name}": value for metric, value in metrics.items()}
    return found


def _some(numbers: RowNumbers) -> dict[str, float]:
    if not len(numbers["index"]):
        return {}  # an early stop came before any of these rows
    wanted = ("approx_kl", "thought_log_prob", "action_log_prob", "thought_weight", "entropy", "clip_fraction")
    return {name: value for name, value in score_metrics(numbers).items() if name in wanted}
