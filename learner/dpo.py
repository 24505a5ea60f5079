"""Direct preference optimisation on pairs of a right and a wrong response to the same state.

Source: arXiv 2305.18290, equation 7; the recipe for vision-language models is LLaVA-Reasoner's (arXiv 2410.16198).
The reference is the model before the stage: the policy with its adapter off, one set of base weights. What is trained
is a fresh adapter, and the result is an ordinary model folder with the adapter merged in: whatever follows begins with
a base model of its own, and every proof of weights stays as it is.

Deviations: log-probs are those of the distribution that the responses were sampled from (temperature, banned ids), as
everywhere in the learner; the sums may leave out tokens or weigh them with lambda (`DPOConfig.tokens`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from learner.adapter_export import write_adapter
from learner.backbone import Backbone
from learner.batching import collate, microbatches, pad_right
from learner.config import LearnerConfig
from learner.losses import approximate_kl, reduce_tokens, token_weights
from learner.model_folder import check_model_folder
from learner.model_writer import check_new_folder, merge_adapter
from learner.optimizers import clipped_step
from learner.outcomes import read_outcomes
from learner.pairs import Pairs, build_pairs
from learner.policy import Policy
from learner.preparation import sampled_log_probs
from learner.rows import Rows, gather_rows
from learner.schedules import learning_rate_factor
from learner.sft import REPORTED_STEPS, batches_of, check_rows
from learner.stage_settings import DPOConfig, PairConfig
from learner.thought_weights import ThoughtWeights
from protocol.codec import TrajectoryBatch


@dataclass(frozen=True, slots=True)
class PreferenceLosses:
    """Of P pairs, float32 [P] each."""

    loss: torch.Tensor
    chosen_reward: torch.Tensor
    """beta * (log pi - log pi_reference) of the chosen response."""
    rejected_reward: torch.Tensor


def preference_losses(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    *,
    beta: float,
) -> PreferenceLosses:
    """-log sigmoid(chosen_reward - rejected_reward), with reward = beta * (log pi - log pi_reference).

    Args:
        chosen, rejected: [P] summed log-probs under the policy.
        reference_chosen, reference_rejected: [P] the same under the reference.
        beta: inverse strength of the tie to the reference.
    """
    chosen_reward = beta * (chosen - reference_chosen)
    rejected_reward = beta * (rejected - reference_rejected)
    return PreferenceLosses(-F.logsigmoid(chosen_reward - rejected_reward), chosen_reward, rejected_reward)


def run_dpo(
    model_path: str | Path,
    batches: Sequence[TrajectoryBatch],
    config: DPOConfig,
    pairing: PairConfig,
    learner: LearnerConfig,
    banned_token_ids: Collection[int],
    *,
    seed: int,
    out_dir: str | Path,
    published: Mapping[int, bytes],
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Train an adapter on pairs made of sampled rows, and save the model with it merged in.

    Args:
        model_path: Hugging Face folder to start from, the reference; it is not changed.
        batches: sampled rows.
        config: loss, steps and rates.
        pairing: how pairs are made of the rows.
        learner: adapter, lambda, discount, and how to compute.
        banned_token_ids: ids that the sampler never sampled.
        seed: of the pairs, the initial adapter and the shuffle.
        out_dir: folder to create; it appears only when complete. The adapter itself stays in `adapter` beside it.
        published: digest of every policy version that the rows may be of.
        on_step: called after each step with its number (from 1) and its metrics.

    Returns:
        `steps`, `pairs`, `states`, `first_loss`, `dpo_s`, and the means of the last ten steps: `loss`, `accuracy`
        (share of pairs in which the chosen response has the higher reward), `margin` (of the rewards),
        `chosen_reward`, `rejected_reward`, `reference_kl` (estimate of KL(reference || policy) per response, in nats,
        on the responses of the pairs).

    Raises:
        ModelFolderError: The model folder is missing or incomplete, or the result cannot keep its layout.
        FileExistsError: `out_dir` exists and is not an empty folder.
        TrajectoryError: A row is invalid, or no state has both a right and a wrong response.
        UpdateDiverged: A loss or gradient was not finite.
    """
    started_s = time.perf_counter()
    source, out_dir = check_model_folder(model_path), Path(out_dir)
    check_new_folder(out_dir)
    policy = Policy(
        Backbone.load(source, learner.compute),
        learner.lora,
        value_hidden_sizes=(1,),  # there is no critic
        value_gradient_to_backbone=False,
        banned_token_ids=banned_token_ids,
        seed=seed,
    )
    check_rows(batches, policy.backbone, published)
    rows = gather_rows(batches)
    pairs = build_pairs(rows, read_outcomes(batches, rows), pairing, gamma=learner.ppo.gamma, seed=seed)
    history: list[dict[str, float]] = []
    for metrics in PreferenceTrainer(policy, rows, pairs, config, learner).train(seed):
        history.append(metrics)
        if on_step is not None:
            on_step(len(history), metrics)
    adapter = write_adapter(policy, source, out_dir.with_name("adapter"))
    del policy  # its base weights and those that the adapter is merged into need not be there together
    merge_adapter(source, adapter, out_dir, learner.compute)
    last = history[-REPORTED_STEPS:]
    return {
        "steps": float(len(history)),
        "pairs": float(len(pairs)),
        "states": float(pairs.states),
        "first_loss": history[0]["loss"],
        **{name: float(np.mean([metrics[name] for metrics in last])) for name in last[0]},
        "dpo_s": time.perf_counter() - started_s,
    }


class PreferenceTrainer:
    """Trains a policy's adapter on pairs of rows.

    Args:
        policy: with a fresh adapter; its base model is the reference.
        rows: what the pairs are rows of.
        pairs: right and wrong responses.
        config: loss, steps and rates.
        learner: lambda, dropout, token budget and kind of optimizer.
    """

    def __init__(self, policy: Policy, rows: Rows, pairs: Pairs, config: DPOConfig, learner: LearnerConfig) -> None:
        self._policy = policy
        self._rows = rows
        self._pairs = pairs
        self._config = config
        # There are no updates yet: a schedule is at its beginning, and `auto` has measured nothing.
        thought_weights = ThoughtWeights(learner.ppo).of_rows(rows.components, rows.env_ids, update=0)
        self._thought_weights = torch.from_numpy(thought_weights)
        self._token_budget = learner.compute.micro_batch_tokens
        self._fused_optimizer = learner.compute.fused_optimizer
        index = np.unique(np.concatenate([pairs.chosen, pairs.rejected]))
        with policy.adapter_off():
            self._reference = sampled_log_probs(policy, rows, index, self._token_budget)
        lengths = rows.lengths
        # Both responses of a pair go through the model in one pass, padded to the longer one.
        self._lengths = 2 * np.maximum(lengths[pairs.chosen], lengths[pairs.rejected])

    def train(self, seed: int) -> Iterator[dict[str, float]]:
        """Make one optimizer step per yielded metrics."""
        config, parameters = self._config, list(self._policy.adapter_parameters().values())
        optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=0.0, fused=self._fused_optimizer or None
        )
        places = batches_of(len(self._pairs), config.batch_size, seed)
        with self._policy.adapter_dropout(seed):
            for step in range(config.steps):
                factor = learning_rate_factor(
                    config.schedule, step, warmup=config.warmup_steps, total=config.steps, final=0.0
                )
                optimizer.param_groups[0]["lr"] = config.learning_rate * factor
                metrics = self._accumulate(next(places))
                clipped_step(optimizer, [("adapter", parameters)], max_norm=config.max_grad_norm, loss=metrics["loss"])
                yield metrics

    def _accumulate(self, index: np.ndarray) -> dict[str, float]:
        """Add the gradient of the mean loss of the pairs at `index`, and return the means of what was measured."""
        sums: dict[str, float] = {}
        for group in microbatches(self._lengths, index, self._token_budget):
            loss, numbers = self.losses(group)
            (loss.sum() / len(index)).backward()
            for name, values in (("loss", loss.detach()), *numbers.items()):
                sums[name] = sums.get(name, 0.0) + float(values.sum())
        return {name: total / len(index) for name, total in sums.items()}

    def losses(self, index: np.ndarray) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Losses of the P pairs at `index`, float32 [P] with gradient, and numbers of each pair without."""
        members = np.concatenate([self._pairs.chosen[index], self._pairs.rejected[index]])
        batch = collate(self._rows, members, self._policy.backbone.pad_id).to(self._policy.backbone.device)
        log_probs = self._policy.log_probs(batch)
        reference, roles = (part.to(log_probs.device) for part in self._fixed(members))
        thought_weights = self._thought_weights[members].to(log_probs.device)
        weights = token_weights(roles, batch.response_mask, thought_weights, self._config.tokens)
        chosen, rejected = reduce_tokens(log_probs, weights, "sum").chunk(2)
        made = preference_losses(
            chosen, rejected, *reduce_tokens(reference, weights, "sum").chunk(2), beta=self._config.beta
        )
        likelihood = reduce_tokens(log_probs, batch.response_mask.float(), "mean")[: len(index)]
        margin = made.chosen_reward - made.rejected_reward
        kl = approximate_kl(log_probs, reference, batch.response_mask)
        numbers = {
            "accuracy": (margin > 0).float(),
            "margin": margin,
            "chosen_reward": made.chosen_reward,
            "rejected_reward": made.rejected_reward,
            "chosen_nll": -likelihood,
            "reference_kl": (kl[: len(index)] + kl[len(index) :]) / 2,
        }
        loss = made.loss - self._config.nll_coefficient * likelihood
        return loss, {name: value.detach() for name, value in numbers.items()}

    def _fixed(self, members: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs of the reference, float32 [B, T], and roles, int8 [B, T], of the rows of a batch."""
        reference = [log_probs for row in members if (log_probs := self._reference[row]) is not None]
        roles = [self._rows.roles[row] for row in members]
        return pad_right(reference, np.dtype(np.float32))[0], pad_right(roles, np.dtype(np.int8))[0]
