"""One policy update over the rows of admitted trajectories, whatever the algorithm.

Minibatches, microbatches, early stop, optimizer steps and metrics are the same for all; `learner.algorithms` says
what the advantages and the policy loss are. Knows no queues, files or versions beyond the number it is told;
`learner.learner` calls it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from learner.algorithms.registry import build_algorithm
from learner.config import LearnerConfig
from learner.monitors import duplicate_thoughts, image_dependence
from learner.objective import Objective, RowNumbers, join_numbers
from learner.optimizers import clipped_step
from learner.parallel.dealing import deal_passes
from learner.parallel.joining import join_step, without_rows
from learner.policy import Policy
from learner.preparation import Prepared, prepare
from learner.rows import Rows
from learner.schedules import learning_rate_factor
from learner.span_energies import SpanEnergies, probe_energies
from learner.thought_weights import ThoughtWeights
from learner.update_metrics import component_metrics, first_metrics, score_metrics, target_metrics
from protocol.errors import CheckpointError


@dataclass(slots=True)
class _Passes:
    """What the minibatches of one update said."""

    numbers: list[RowNumbers] = field(default_factory=list)
    norms: list[dict[str, float]] = field(default_factory=list)
    """Gradient norms of every optimizer step, before clipping."""
    stopped_early: bool = False


class UpdateLoop:
    """The algorithm, its optimizer, and what it remembers from update to update.

    Args:
        policy: what is trained.
        config: hyperparameters. Gradients do not depend on `compute.micro_batch_tokens`.

    Where several processes hold the policy (`policy.group`), each calls the same methods with the same rows; rows are
    dealt out within every minibatch, and all make the same steps.
    """

    def __init__(self, policy: Policy, config: LearnerConfig) -> None:
        self._policy = policy
        self._group = policy.group
        self._config = config
        self._ppo = config.ppo
        self._algorithm = build_algorithm(config)
        self._thought_weights = ThoughtWeights(config.ppo)
        self._objective = Objective(policy, config, self._algorithm, measures_energies=self._thought_weights.balances)
        self._adapter = list(policy.adapter_parameters().values())
        self._critic = list(policy.value_parameters().values())
        self.has_moved = False
        """Whether the weights have left one policy version and are not yet declared the next."""
        # AdamW with weight decay 0 is Adam.
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self._adapter, "lr": config.ppo.learning_rate},
                {"params": self._critic, "lr": config.ppo.value_learning_rate},
            ],
            weight_decay=0.0,
            fused=config.compute.fused_optimizer or None,
        )

    def update(self, rows: Rows, *, policy_version: int, generator: torch.Generator) -> dict[str, float]:
        """Train on `rows` for the configured epochs.

        Args:
            rows: N >= 1 rows of complete trajectories.
            policy_version: of the weights as they are now; also the index of every schedule.
            generator: shuffles the rows and seeds the dropout.

        Returns:
            Metrics. `ratio_first_minibatch_max_error` (largest |ratio - 1| before the first optimizer step,
            over the rows that this very version sampled) is left out where there are no such rows.

        Raises:
            TrajectoryError: The rows hold nothing that the algorithm can use; nothing was changed.
            UpdateDiverged: A loss or gradient was not finite; that step was not applied, earlier ones of this
                update were.
            LearnerGroupBroken: Another process of the group is gone, late, or ended up with other weights.
        """
        started_s = time.perf_counter()
        self._policy.backbone.vision.clear()
        prepared = prepare(self._policy, rows, self._config, self._algorithm, self._thought_weights, policy_version)
        targets_s = time.perf_counter() - started_s
        self.has_moved = True
        factor = self._set_learning_rates(policy_version)
        passes = self._train(rows, prepared, generator)
        self._group.require_equal(self._policy.trained_parameters())
        numbers = join_numbers(passes.numbers)
        self._observe_energies(rows, prepared, numbers, generator)
        return {
            **score_metrics(numbers),
            **first_metrics(passes.numbers[0], rows, policy_version),
            **target_metrics(prepared.targets),
            **component_metrics(numbers, rows, prepared.targets),
            "adapter_grad_norm": float(np.mean([norm["adapter"] for norm in passes.norms])),
            "value_grad_norm": float(np.mean([norm["value_head"] for norm in passes.norms])),
            "approx_kl_last_minibatch": float(passes.numbers[-1]["kl"].mean()),
            "stopped_early": float(passes.stopped_early),
            "optimizer_steps": float(len(passes.norms)),
            "learning_rate": self._ppo.learning_rate * factor,
            "targets_s": targets_s,
            "update_s": time.perf_counter() - started_s,
            **self._monitor(rows, policy_version, generator),
        }

    def state(self) -> dict:
        """JSON-able state for a checkpoint, beside the optimizer's."""
        memory = self._algorithm.memory
        return {
            "algorithm": self._config.algorithm,
            "memory": memory.state() if memory else {},
            "thought_weights": self._thought_weights.state(),
        }

    def load_state(self, state: dict) -> None:
        """Take up the state of a checkpoint.

        Raises:
            CheckpointError: It is that of another algorithm.
        """
        if state["algorithm"] != self._config.algorithm:
            raise CheckpointError(
                f"The checkpoint was written by learner.algorithm={state['algorithm']}, not {self._config.algorithm}.",
                f"resume with learner.algorithm={state['algorithm']}",
            )
        if self._algorithm.memory is not None:
            self._algorithm.memory.load_state(state["memory"])
        self._thought_weights.load_state(state["thought_weights"])

    def _train(self, rows: Rows, prepared: Prepared, generator: torch.Generator) -> _Passes:
        """All minibatches of all epochs, or those before an early stop."""
        passes = _Passes()
        dropout_seed = int(torch.randint(2**62, (), generator=generator))
        # Every process has rows of its own, so its dropout must be its own.
        with self._policy.adapter_dropout(dropout_seed + self._group.rank):
            for index in self._minibatches(prepared.targets.trained_rows, generator):
                passes.numbers.append(self._accumulate(rows, prepared, index))
                passes.stopped_early = len(passes.numbers) > 1 and self._beyond_kl_limit(passes.numbers[-1])
                if passes.stopped_early:
                    self.optimizer.zero_grad(set_to_none=True)
                    break
                passes.norms.append(self._step(passes.numbers[-1]))
        return passes

    def _set_learning_rates(self, policy_version: int) -> float:
        """Set both rates of this update; returns the factor on them."""
        ppo = self._ppo
        factor = learning_rate_factor(
            ppo.learning_rate_schedule,
            policy_version,
            warmup=ppo.warmup_updates,
            total=ppo.learning_rate_updates,
            final=ppo.learning_rate_final_factor,
        )
        rates = (ppo.learning_rate, ppo.value_learning_rate)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        return factor

    def _minibatches(self, trained_rows: np.ndarray, generator: torch.Generator) -> Iterator[np.ndarray]:
        """Row indices of every minibatch of every epoch; sizes within an epoch differ by one at most."""
        parts = math.ceil(len(trained_rows) / self._ppo.minibatch_size)
        for _ in range(self._ppo.epochs):
            shuffled = torch.randperm(len(trained_rows), generator=generator)
            yield from (trained_rows[part.numpy()] for part in shuffled.tensor_split(parts))

    def _beyond_kl_limit(self, numbers: RowNumbers) -> bool:
        limit = self._ppo.kl_early_stop
        return limit is not None and float(numbers["kl"].mean()) > limit

    def _accumulate(self, rows: Rows, prepared: Prepared, index: np.ndarray) -> RowNumbers:
        """Add the gradient of one minibatch's mean loss, microbatch by microbatch and over all processes."""
        parts = []
        budget = self._config.compute.micro_batch_tokens
        for part in deal_passes(self._group, rows.lengths, index, budget, self._policy.backbone.state_of(rows)):
            loss, numbers = self._objective.losses(rows, prepared, part.rows)
            (loss * part.weight / len(index)).backward()
            parts.append(numbers if part.counts else without_rows(numbers))
        return join_step(self._group, [*self._adapter, *self._critic], index, parts)

    def _step(self, numbers: RowNumbers) -> dict[str, float]:
        groups = [("adapter", self._adapter), ("value_head", self._critic)]
        loss = float(numbers["loss"].mean())
        return clipped_step(self.optimizer, groups, max_norm=self._ppo.max_grad_norm, loss=loss)

    def _monitor(self, rows: Rows, policy_version: int, generator: torch.Generator) -> dict[str, float]:
        """Signs of collapse; the generator's draws of the update are done."""
        found = {}
        duplicates = duplicate_thoughts(rows)
        if duplicates is not None:
            found["duplicate_thoughts"] = duplicates
        monitors = self._config.monitors
        if monitors.rows and policy_version % monitors.every_updates == 0:
            started_s = time.perf_counter()
            found |= image_dependence(
                self._policy,
                rows,
                sample_rows=monitors.rows,
                token_budget=self._config.compute.micro_batch_tokens,
                generator=generator,
            )
            found["monitor_s"] = time.perf_counter() - started_s
        return found

    def _observe_energies(
        self, rows: Rows, prepared: Prepared, numbers: RowNumbers, generator: torch.Generator
    ) -> None:
        """Show the first epoch's gradient energies, and a probe of the weights as they are now, to lambda's rule."""
        if not self._thought_weights.balances:
            return
        targets, components = prepared.targets, rows.components
        first = slice(0, len(targets.trained_rows))
        index = numbers["index"][first]
        squared = targets.advantages[index].double().square().numpy()
        energies = [squared * numbers[name][first].double().numpy() for name in ("thought_energy", "action_energy")]
        probe = None
        if self._ppo.thought_weight_probe_rows:
            drawn = torch.randperm(len(targets.trained_rows), generator=generator)[
                : self._ppo.thought_weight_probe_rows
            ]
            probe = probe_energies(self._policy, rows, targets.trained_rows[drawn.numpy()], targets.advantages)
        self._thought_weights.observe([components[i] for i in index.tolist()], SpanEnergies(*energies), probe)
