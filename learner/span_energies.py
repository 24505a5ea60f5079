"""Gradient energies of thought and action spans: what lambda's rule `auto` balances (derived in docs/method.md).

The energy of a span in one row is A^2 * |grad of the span's summed log-prob|^2. In the space of logits it costs next to
nothing and is known for every row; in the space of the adapter's weights, where it is meant, it takes a backward pass
per row and span, and is measured on a few rows only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from learner.batching import collate
from learner.losses import response_log_probs, score_energies, span_energies
from learner.parallel.dealing import deal_passes
from learner.policy import Policy
from learner.rows import Rows


@dataclass(frozen=True, slots=True, eq=False)
class SpanEnergies:
    """Energies of M rows, float64 [M] each."""

    thought: np.ndarray
    action: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class EnergyProbe:
    """The same rows measured in both spaces."""

    logits: SpanEnergies
    weights: SpanEnergies


def probe_energies(policy: Policy, rows: Rows, index: np.ndarray, advantages: torch.Tensor) -> EnergyProbe:
    """Energies of the rows at `index` (int [M]) in the space of logits and in that of the adapter's weights.

    One forward and two backward passes per row; no gradient is left behind.

    Args:
        policy: as it is.
        rows: N rows.
        index: which of them.
        advantages: float32 [N].
    """
    parameters = list(policy.adapter_parameters().values())
    found = torch.zeros(4, len(index), dtype=torch.float64)
    alone = deal_passes(policy.group, rows.lengths[index], np.arange(len(index)), token_budget=1)
    for (place,), counts in ((part.rows, part.counts) for part in alone):
        row = index[place]
        batch = collate(rows, np.array([row]), policy.backbone.pad_id).to(policy.backbone.device)
        roles = torch.from_numpy(np.array(rows.roles[row]))[None].to(policy.backbone.device)
        tokens = policy.evaluate(batch, collision_probs=True).tokens
        assert tokens.collision_probs is not None, "it was asked for"
        energies = score_energies(tokens.log_probs.detach(), tokens.collision_probs)
        measured = [float(span) for span in span_energies(energies, roles, batch.response_mask)]
        sums = response_log_probs(tokens.log_probs, roles, batch.response_mask, 1.0)
        # A prompt without a picture leaves an adapter of the vision tower unused.
        thought = torch.autograd.grad(sums.thought.sum(), parameters, retain_graph=True, allow_unused=True)
        action = torch.autograd.grad(sums.action.sum(), parameters, allow_unused=True)
        for gradients in (thought, action):
            measured.append(sum(float(g.square().sum()) for g in gradients if g is not None))
        if counts:
            found[:, place] = torch.tensor(measured, dtype=torch.float64) * float(advantages[row]) ** 2
    policy.group.add_up([found])
    logits, weights = found.numpy()[:2], found.numpy()[2:]
    return EnergyProbe(SpanEnergies(*logits), SpanEnergies(*weights))
