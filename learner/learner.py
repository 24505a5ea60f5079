"""The learner: receives trajectories, updates the policy, packages adapters, saves and resumes.

A plain class without threads or Ray; `cluster` drives it, in its own process or in somebody else's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from learner.adapter_export import build_package
from learner.admission import Admission, Ledger
from learner.backbone import Backbone
from learner.checkpoint import apply_checkpoint, read_checkpoint, save_checkpoint
from learner.config import LearnerConfig
from learner.model_folder import check_model_folder
from learner.offloading import Offloader
from learner.parallel.group import ALONE, Group
from learner.policy import Policy
from learner.rows import gather_rows
from learner.update import UpdateLoop
from protocol.adapter import AdapterPackage, CanaryPrompt
from protocol.codec import TrajectoryBatch
from protocol.errors import CheckpointError, TrajectoryError
from protocol.validation import AdmissionRules, Rejection


class Learner:
    """Trains one policy.

    Args:
        model_path: Hugging Face folder of the base weights.
        config: settings.
        banned_token_ids: ids that the sampler never samples; the very list the sampler was given.
        seed: of the initial adapter and of every shuffle.
        group: the processes that train this policy together. Each has a learner of its own, made with the same
            arguments, and calls the same methods with the same arguments; each receives every trajectory. One of
            them saves.

    Raises:
        ModelFolderError: The folder is missing or incomplete.
    """

    def __init__(
        self,
        model_path: str | Path,
        config: LearnerConfig,
        banned_token_ids: Collection[int],
        seed: int,
        group: Group = ALONE,
    ) -> None:
        self._model_path = check_model_folder(model_path)
        self._config = config
        self._seed = seed
        backbone = Backbone.load(self._model_path, config.compute, group=group)
        self.policy = Policy(
            backbone,
            config.lora,
            value_hidden_sizes=config.ppo.value_hidden_sizes,
            value_gradient_to_backbone=config.ppo.value_gradient_to_backbone,
            banned_token_ids=banned_token_ids,
            seed=seed,
        )
        self._loop = UpdateLoop(self.policy, config)
        self._offloader = Offloader(self.policy, self._loop.optimizer)
        self._admission = Admission(
            backbone.images,
            banned_token_ids,
            max_staleness=config.max_staleness,
            kept_rejections=config.kept_rejections,
        )
        self._ages = range(config.max_staleness + 1) if config.max_staleness else ()
        self._published: dict[int, bytes] = {}
        self._policy_version = 0

    @property
    def policy_version(self) -> int:
        """Version of the weights as they are now: 0 for the fresh adapter, one more after each update."""
        return self._policy_version

    @property
    def ledger(self) -> Ledger:
        """Every received trajectory by its fate; live."""
        return self._admission.ledger

    @property
    def rejections(self) -> list[Rejection]:
        """The last trajectories refused as invalid, oldest first."""
        return list(self._admission.rejections)

    def receive(self, batches: Iterable[TrajectoryBatch]) -> list[Rejection]:
        """Check and keep deliveries; returns what was refused as invalid. Repeated deliveries do no harm."""
        backbone = self.policy.backbone
        rules = AdmissionRules(backbone.vocab_size, backbone.image_token_id, self._published)
        return [
            rejection for batch in batches for rejection in self._admission.receive(batch, rules, self._policy_version)
        ]

    def update(self) -> dict[str, float]:
        """Train on everything that waits and is fresh enough; the policy version goes up by one.

        Returns:
            Metrics of the update (see `learner.update`), of the rows it saw, and of the ledger.

        Raises:
            TrajectoryError: Nothing waits that may be trained on, or nothing that the algorithm can use (no whole
                episode, no two of one initial state). What waits goes on waiting.
            UpdateDiverged: A loss or gradient was not finite. The version stays; the trajectories go on
                waiting; the weights are those after the last finite step, so resume from a checkpoint.
            LearnerGroupBroken: Another process of the group is gone, late, or ended up with other weights.
            CheckpointError: An earlier update broke off.
        """
        self._check_present()
        self._check_whole()
        batches = self._admission.take(self._policy_version)
        if not batches:
            raise TrajectoryError(
                f"No trajectory waits for update {self._policy_version} ({asdict(self.ledger)}).",
                "receive trajectories first, and publish each version before it samples",
            )
        rows = gather_rows(batches)
        metrics = self._loop.update(
            rows, policy_version=self._policy_version, generator=self._generator(self._policy_version)
        )
        staleness = self._policy_version - rows.policy_versions
        trajectories = self._admission.mark_trained()
        self._policy_version += 1
        self._loop.has_moved = False
        return {
            **metrics,
            "policy_version": float(self._policy_version),
            "rows": float(len(rows)),
            "trajectories": float(trajectories),
            "response_tokens": float(sum(len(r) for r in rows.responses)),
            "reward_mean": float(rows.rewards.mean()),
            "invalid_rate": float(1 - rows.legal.mean()),
            "staleness_mean": float(staleness.mean()),
            "staleness_max": float(staleness.max()),
            **{f"staleness_{age}": float((staleness == age).mean()) for age in self._ages},
            **{f"ledger_{fate}": float(count) for fate, count in asdict(self.ledger).items()},
        }

    def package(self, prompts: Sequence[CanaryPrompt]) -> AdapterPackage:
        """The adapter of the current version with scored canaries; from now on its rows are admitted.

        Raises:
            RequestRefused: A canary is malformed.
            CheckpointError: An update broke off.
        """
        self._check_present()
        self._check_whole()
        package = build_package(self.policy, self._model_path, self._policy_version, prompts)
        self._published[self._policy_version] = package.manifest.digest
        return package

    def offload(self) -> int:
        """Give the device's memory back until `reload`; returns the bytes (see `learner.offloading`).

        Until then trajectories may be received and checkpoints be written, and nothing else.

        Raises:
            ConfigError: The weights are held in a form that cannot be moved.
        """
        return self._offloader.offload()

    def reload(self) -> None:
        """Take the device's memory again: everything is as it was, bit for bit."""
        self._offloader.reload()

    def save(self, directory: str | Path) -> Path:
        """Write a checkpoint (see `learner.checkpoint`). Waiting trajectories are not part of it.

        Raises:
            CheckpointError: An update broke off: the weights are between two versions.
        """
        self._check_whole()
        counters = {
            "policy_version": self._policy_version,
            "seed": self._seed,
            "published": {str(version): digest.hex() for version, digest in self._published.items()},
            "admission": self._admission.state(),
            "update": self._loop.state(),
        }
        return save_checkpoint(directory, self.policy, self._loop.optimizer, self._model_path, counters)

    def load(self, directory: str | Path, *, fresh_optimizer: bool = False) -> None:
        """Continue from a checkpoint exactly as if there had been no break; the run's seed comes with it.

        Args:
            directory: The checkpoint.
            fresh_optimizer: Leave out the optimizer's state and what the update loop remembers, of any algorithm:
                adapter and value head are taken up as a new stage's beginning. Policy versions count on.

        Raises:
            CheckpointError: The directory is no checkpoint, or one of another model, shape or algorithm.
        """
        self._check_present()
        checkpoint = read_checkpoint(directory, self.policy, self._model_path)
        try:
            counters = checkpoint.counters
            seed, version = int(counters["seed"]), int(counters["policy_version"])
            published = {int(v): bytes.fromhex(d) for v, d in counters["published"].items()}
            if not fresh_optimizer:
                self._loop.load_state(counters["update"])
            self._admission.load_state(counters["admission"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"The counters of checkpoint {str(directory)!r} are damaged: {error!r}.") from error
        if fresh_optimizer:
            checkpoint = replace(checkpoint, moments={})
        self._loop.has_moved = True
        apply_checkpoint(checkpoint, self.policy, self._loop.optimizer)
        self._loop.has_moved = False
        self._seed, self._policy_version, self._published = seed, version, published

    def _check_present(self) -> None:
        if self._offloader.is_offloaded:
            raise RuntimeError("the learner has given its device's memory back: reload() comes first")

    def _check_whole(self) -> None:
        if self._loop.has_moved:
            raise CheckpointError(
                f"Update {self._policy_version} broke off: the weights are no policy version's any more.",
                "go on from the last checkpoint",
            )

    def _generator(self, policy_version: int) -> torch.Generator:
        """Shuffles one update; a function of seed and version, so that nothing need be saved."""
        state = np.random.SeedSequence([self._seed, policy_version]).generate_state(1, np.uint64)[0]
        generator = torch.Generator()
        generator.manual_seed(int(state) >> 1)
        return generator
