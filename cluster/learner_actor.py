"""The learner as a Ray actor: the model's stages first, then PPO on Arrow batches taken by reference."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.frames import FrameEncoder
from actors.prompting import ImageSize
from cluster.trajectory_files import TrajectoryFiles
from cluster.waiting import wait_for
from learner.config import ComputeConfig, LearnerConfig, SFTConfig
from learner.tiny.config import TinyVLMConfig
from protocol.adapter import AdapterManifest, AdapterPackage, CanaryPrompt
from protocol.codec import TrajectoryBatch
from protocol.package_files import save_package

PACKAGE_FOLDER = "package"
"""Part of a checkpoint: the adapter as it was served, with its canaries."""

FETCH_TIMEOUT_S = 600.0
"""Longest wait for one update's batches to arrive from the workers' nodes, in seconds."""


WATCH = "watch"
"""Concurrency group with a thread of its own, for questions while the one other thread computes. All work stays on
that one: two threads that import transformers at the same time find it half-imported."""


def spawn_learner(**options: Any) -> Any:
    """Start the learner's Ray actor; `options` are Ray's (resources, placement)."""
    remote: Any = ray.remote  # its stub does not know concurrency_groups
    return remote(concurrency_groups={WATCH: 1})(LearnerActor).options(**options).remote()


class LearnerActor:
    """Wraps the stages of `learner/`; one process, so that torch is imported once.

    Heavy imports happen in the methods: the actor answers `progress` as soon as its process is there.
    """

    def __init__(self) -> None:
        self._progress: dict[str, float] = {}
        self._learner: Any = None
        self._files: TrajectoryFiles | None = None

    @ray.method(concurrency_group=WATCH)
    def progress(self) -> dict[str, float]:
        """Numbers of the stage that is running; callable at any time."""
        return dict(self._progress)

    def build_tiny(self, config: TinyVLMConfig, texts: tuple[Sequence[str], ...], seed: int, out_dir: str) -> str:
        """Build a tiny model from its corpus (prompts, responses, words to isolate)."""
        from learner.tiny.builder import build_tiny_vlm
        from learner.tiny.corpus import TinyCorpus

        prompts, responses, isolated = (tuple(t) for t in texts)
        return str(build_tiny_vlm(config, TinyCorpus(prompts, responses, isolated), seed, Path(out_dir)))

    def image_tokens(self, model: str, sizes: Sequence[ImageSize]) -> dict[ImageSize, int]:
        """Tokens that an image takes, by its size."""
        from transformers import AutoProcessor

        from learner.images import FrameProcessor

        images = FrameProcessor(AutoProcessor.from_pretrained(model, local_files_only=True), capacity=1)
        counts = {}
        for height, width in sizes:
            frame = FrameEncoder().encode(np.zeros((height, width, 3), dtype=np.uint8))
            counts[height, width] = images.image_tokens([frame.digest], {frame.digest: frame.data})
        return counts

    def run_sft(
        self,
        model: str,
        batches: Sequence[TrajectoryBatch],
        config: SFTConfig,
        compute: ComputeConfig,
        seed: int,
        out_dir: str,
    ) -> dict[str, float]:
        """Supervised stage; see `learner.sft.run_sft`."""
        from learner.sft import run_sft

        def on_step(step: int, loss: float) -> None:
            self._progress = {"step": step, "loss": loss}

        return run_sft(model, list(batches), config, seed=seed, out_dir=out_dir, compute=compute, on_step=on_step)

    def start(
        self, model: str, config: LearnerConfig, banned_token_ids: Sequence[int], seed: int, trajectories: str
    ) -> None:
        """Load the model and put a fresh adapter on it."""
        from learner.learner import Learner

        self._learner = Learner(model, config, banned_token_ids, seed)
        self._files = TrajectoryFiles(Path(trajectories))

    def update(self, update: int, batches: Sequence[ray.ObjectRef]) -> dict[str, float]:
        """Fetch the batches, keep them as Parquet, and make one policy update of them."""
        assert self._learner is not None and self._files is not None, "start comes first"
        began = time.perf_counter()
        received: list[TrajectoryBatch] = wait_for(batches, "the rollout's batches", FETCH_TIMEOUT_S)
        fetched_s = time.perf_counter() - began
        self._files.write(update, received)
        self._learner.receive(received)
        return {**self._learner.update(), "fetch_s": fetched_s}

    def package(self, canaries: Sequence[CanaryPrompt]) -> tuple[AdapterManifest, AdapterPackage]:
        """The current adapter with the canaries scored under it; its manifest comes apart, for the driver."""
        package = self._learner.package(canaries)
        return package.manifest, package

    def save(self, folder: str, canaries: Sequence[CanaryPrompt]) -> None:
        """Write the learner's checkpoint to a folder that does not exist yet, and what servers were given beside it."""
        self._learner.save(Path(folder))
        save_package(self._learner.package(canaries), Path(folder) / PACKAGE_FOLDER)

    def load(self, folder: str) -> None:
        """Go on from a checkpoint."""
        self._learner.load(Path(folder))
