"""Lambda of every row: fixed, scheduled over updates, set per environment, or balanced by gradient energy.

The rule behind `auto` is derived in docs/method.md. In short, one row's policy gradient is A * (lambda * s_thought +
s_action) with s = grad log p. Lambda is chosen so that both spans carry equal expected gradient energy,

    lambda^2 * E[A^2 * |s_thought|^2] = E[A^2 * |s_action|^2].

Both expectations come from all rows in the space of logits, and are carried over to the space of weights by factors
that a few rows, measured in both, give (a ratio estimator; `learner.span_energies`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from learner.algorithms.config import PPOConfig
from learner.moving_average import MovingAverages
from learner.schedules import progress
from learner.span_energies import EnergyProbe, SpanEnergies


class ThoughtWeights:
    """Gives each row its lambda.

    Args:
        config: `thought_weight` and its kin.
    """

    def __init__(self, config: PPOConfig) -> None:
        self._config = config
        self._averages = {
            name: MovingAverages(config.thought_weight_smoothing) for name in ("thought", "action", "probe")
        }

    @property
    def balances(self) -> bool:
        """Whether the rule wants to see the energies of every update."""
        return self._config.thought_weight_rule == "auto"

    def of_rows(self, components: Sequence[str], env_ids: Sequence[str], update: int) -> np.ndarray:
        """Lambda of each row in update `update` (from 0), float32 [N].

        A weight that is set for the row's component or for its environment comes first, then the rule.
        """
        fixed, known = self._config.thought_weights, {}
        for key in set(zip(components, env_ids, strict=True)):
            component, env_id = key
            known[key] = fixed.get(component, fixed.get(env_id, self._by_rule(component, update)))
        return np.array([known[key] for key in zip(components, env_ids, strict=True)], dtype=np.float32)

    def observe(self, components: Sequence[str], energies: SpanEnergies, probe: EnergyProbe | None) -> None:
        """Take in what an update shows; the next `of_rows` uses it.

        Args:
            components: of the rows measured.
            energies: theirs, in the space of logits; averaged per component.
            probe: some rows in both spaces; pooled, because what lies between logits and weights is the model's.
        """
        names = np.array(components)
        for name in sorted(set(components)):
            chosen = names == name
            self._averages["thought"].add(name, float(energies.thought[chosen].mean()))
            self._averages["action"].add(name, float(energies.action[chosen].mean()))
        if probe is not None:
            for space, measured in (("logits", probe.logits), ("weights", probe.weights)):
                self._averages["probe"].add(f"thought {space}", float(measured.thought.mean()))
                self._averages["probe"].add(f"action {space}", float(measured.action.mean()))

    def state(self) -> dict:
        """JSON-able state for a checkpoint."""
        return {name: averages.state() for name, averages in self._averages.items()}

    def load_state(self, state: dict) -> None:
        """Take up the state of a checkpoint."""
        for name, averages in self._averages.items():
            averages.load_state(state[name])

    def _by_rule(self, component: str, update: int) -> float:
        config = self._config
        if config.thought_weight_rule == "fixed":
            return config.thought_weight
        if config.thought_weight_rule == "auto":
            return self._balanced(component)
        share = progress(config.thought_weight_rule, update, config.thought_weight_updates)
        return config.thought_weight + share * (config.thought_weight_final - config.thought_weight)

    def _balanced(self, component: str) -> float:
        thought, action = (self._averages[span].value(component) for span in ("thought", "action"))
        if thought is None or action is None:
            return self._config.thought_weight
        factors = self._factors()
        return balanced_weight(thought * factors[0], action * factors[1], minimum=self._config.thought_weight_minimum)

    def _factors(self) -> tuple[float, float]:
        """Energy in the space of weights over that in the space of logits, thought and action; 1 where not known."""
        factors = []
        for span in ("thought", "action"):
            logits, weights = (self._averages["probe"].value(f"{span} {space}") for space in ("logits", "weights"))
            if not logits or not weights:
                return 1.0, 1.0
            factors.append(weights / logits)
        return factors[0], factors[1]


def balanced_weight(thought_energy: float, action_energy: float, *, minimum: float) -> float:
    """Lambda in [minimum, 1] at which both spans carry equal gradient energy: sqrt(action / thought).

    1 where the thought span has no energy: there is nothing to hold back.
    """
    if thought_energy <= action_energy:
        return 1.0
    return max(minimum, math.sqrt(action_energy / thought_energy))
