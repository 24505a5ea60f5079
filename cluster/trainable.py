"""A run as a `ray.tune` Trainable, for sweeps, schedulers and Tune's checkpoint managers.

    tune.Tuner(
        tune.with_parameters(CroupierTrainable, base="cluster/configs/local.yaml"),
        param_space={"learner.ppo.learning_rate": tune.grid_search([3e-4, 1e-3])},
    )

The loop is the driver's own; this class only translates. It reserves a sliver of a CPU for itself: learner, servers and
workers take their resources from the cluster by their own placement group, so leave room beside the trials.

Why not an RLlib `Algorithm`: its checkpoints are pickles, its env runners load torch into every worker, and its set-up
builds catalogs, connectors and modules that nothing here uses.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import tune

from cluster.config import load_config, save_config
from cluster.preflight import check_before_start
from cluster.record.journal import Journal
from cluster.record.progress import RunProgress
from cluster.record.run_dir import RunDir
from cluster.runtime.waiting import StopFlag
from cluster.session import open_session
from cluster.stages.plan import plan_of
from cluster.stages.runner import StageRunner

CHECKPOINT = "checkpoint"
"""Folder of ours inside Tune's."""

RESULT_KEYS = {"success_rate": "rollout/success_rate", "mean_return": "rollout/mean_return"}
"""Short names that Tune's schedulers usually ask for."""


class CroupierTrainable(tune.Trainable):
    """One trial: `train()` is one policy update.

    `base` is the path of a YAML file; the trial's parameters are dotted overrides of it.
    """

    def setup(self, config: dict[str, Any], *, base: str) -> None:  # type: ignore[override]
        """Start the trial's processes; errors are those of `croupier train`."""
        overrides = [f"{key}={value}" for key, value in config.items()]
        self._resources = ExitStack()
        self._config = load_config(base, overrides)
        check_before_start(self._config)
        self._run = RunDir.create(str(self.logdir), "run")
        save_config(self._config, self._run.config)
        session = self._resources.enter_context(open_session(self._config, self._run, RunProgress(), StopFlag()))
        self._driver = StageRunner(session, Journal(self._config, self._run)).up_to_rl()
        self._updates = plan_of(self._config, self._run)[-1].config.rollout.updates

    def step(self) -> dict[str, Any]:
        """One policy update; the last one of the budget reports `done`."""
        values = {k: v for k, v in self._driver.iterate().items() if not math.isnan(v)}
        short = {name: values[key] for name, key in RESULT_KEYS.items() if key in values}
        return {**values, **short, "done": self._driver.progress.update >= self._updates}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the driver's checkpoint into Tune's folder."""
        self._driver.save_to(Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint: str | None) -> None:  # type: ignore[override]
        """Go on from a folder that `save_checkpoint` filled."""
        if checkpoint is not None:
            self._driver.restore(Path(checkpoint) / CHECKPOINT)
            self._driver.publish()

    def cleanup(self) -> None:
        """End the trial's processes."""
        self._resources.close()
