"""The learner as a Ray actor: the model's stages first, then PPO on Arrow batches taken by reference.

Several of them may train together (`cluster.learners.group`); then each does its part, and rank 0 writes the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray

from actors.frames import FrameEncoder
from actors.prompting import ImageSize
from cluster.record.trajectory_files import TrajectoryFiles
from cluster.runtime.node_address import announce_node
from cluster.runtime.waiting import wait_for
from cluster.stages.jobs import sampled_rows, versions_in
from learner.config import ComputeConfig, LearnerConfig, SFTConfig
from learner.stage_settings import SelectionConfig
from learner.tiny.config import TinyVLMConfig
from protocol.adapter import AdapterManifest, AdapterPackage, CanaryPrompt
from protocol.codec import TrajectoryBatch
from protocol.package_files import save_package

Result = TypeVar("Result")

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
        self._history: list[dict[str, float]] = []
        self._learner: Any = None
        self._package: AdapterPackage | None = None
        """Of the learner's present version; None until it is exported."""
        self._files: TrajectoryFiles | None = None
        self._meeting: Any = None
        self._group: Any = None  # a learner.parallel.group.Group; None: alone

    def open_meeting(self, deadline_s: float) -> tuple[str, int]:
        """Wait for other learners under the address that is returned; of rank 0."""
        from learner.parallel.process_group import MeetingPoint

        self._meeting = MeetingPoint(announce_node(), deadline_s)
        return self._meeting.address

    def join(self, address: tuple[str, int], rank: int, size: int, device: str, deadline_s: float) -> None:
        """Become one of several learners; see `learner.parallel.process_group.ProcessGroup`."""
        from learner.devices import resolve_device
        from learner.parallel.process_group import ProcessGroup

        announce_node()
        self._group = ProcessGroup.join(address, rank, size, device=resolve_device(device), deadline_s=deadline_s)

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

        images = FrameProcessor(AutoProcessor.from_pretrained(model, local_files_only=True), capacity_bytes=0)
        counts = {}
        for height, width in sizes:
            frame = FrameEncoder().encode(np.zeros((height, width, 3), dtype=np.uint8))
            counts[height, width] = images.image_tokens([frame.digest], {frame.digest: frame.data})
        return counts

    def history(self) -> list[dict[str, float]]:
        """Metrics of every step of the last stage that ran here, from step 1 on."""
        return self._history

    def run_sft(
        self,
        model: str,
        rows: Sequence[TrajectoryBatch] | str,
        config: SFTConfig,
        compute: ComputeConfig,
        seed: int,
        out_dir: str,
        selection: SelectionConfig | None = None,
    ) -> dict[str, float]:
        """Supervised stage on demonstrations, or on the sampled rows of a folder; see `learner.sft.run_sft`."""
        from learner.parallel.group import ALONE
        from learner.sft import DEMONSTRATIONS_ONLY, run_sft

        self._history = []
        if isinstance(rows, str):
            batches = [sampled_rows(rows, model)]
            published = versions_in(batches[0])
        else:
            batches, published = list(rows), DEMONSTRATIONS_ONLY
        return run_sft(
            model,
            batches,
            config,
            seed=seed,
            out_dir=out_dir,
            compute=compute,
            on_step=lambda step, loss: self._report(step, {"loss": loss}),
            published=published,
            selection=selection,
            group=self._group or ALONE,
        )

    def perform(self, job: Callable[..., Result], *arguments: Any) -> Result:
        """Run one of `cluster.stages.jobs` in this process."""
        self._history = []
        return job(self._report, *arguments)

    def let_go(self) -> None:
        """Forget the policy: the memory is needed for a stage that changes the model itself."""
        self._learner = self._package = None
        self.free()

    def free(self) -> None:
        """Give back what torch holds in reserve of a GPU, which engines may be about to fill."""
        from learner.devices import return_memory

        return_memory()

    def offload(self) -> int:
        """Give the device's memory back until `reload`; see `learner.learner.Learner.offload`."""
        return self._learner.offload()

    def reload(self) -> None:
        """Take the device's memory again."""
        self._learner.reload()

    def _report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._progress = {"step": step, **metrics}
        self._history.append(dict(metrics))

    def start(
        self, model: str, config: LearnerConfig, banned_token_ids: Sequence[int], seed: int, trajectories: str
    ) -> None:
        """Load the model and put a fresh adapter on it."""
        from learner.learner import Learner
        from learner.parallel.group import ALONE

        self._learner = Learner(model, config, banned_token_ids, seed, self._group or ALONE)
        self._package = None
        self._files = TrajectoryFiles(Path(trajectories)) if self._writes else None

    def update(self, update: int, batches: Sequence[ray.ObjectRef]) -> dict[str, float]:
        """Fetch the batches, check them, keep them as Parquet, and make one policy update of them."""
        assert self._learner is not None, "start comes first"
        began = time.perf_counter()
        received: list[TrajectoryBatch] = wait_for(batches, "the rollout's batches", FETCH_TIMEOUT_S)
        fetched_s = time.perf_counter() - began
        rejections = self._learner.receive(received)
        if self._files is not None:
            self._files.write(update, received, rejections)
        self._package = None
        return {**self._learner.update(), "fetch_s": fetched_s}

    def package(self, canaries: Sequence[CanaryPrompt]) -> tuple[AdapterManifest, AdapterPackage | None]:
        """The current adapter with the canaries scored under it; its manifest comes apart, for the driver.

        Every process makes it, because each must know the digest of what it will receive rows of.
        """
        self._package = package = self._learner.package(canaries)
        return package.manifest, package if self._writes else None

    def save(self, folder: str, canaries: Sequence[CanaryPrompt]) -> None:
        """Write the learner's checkpoint to a folder that does not exist yet, and what servers were given beside it."""
        # Exported already, as a rule: then a learner that is not on its device can write, too.
        package = self._package or self._learner.package(canaries)
        if self._writes:
            self._learner.save(Path(folder))
            save_package(package, Path(folder) / PACKAGE_FOLDER)

    def load(self, folder: str, fresh_optimizer: bool = False) -> None:
        """Go on from a checkpoint; see `learner.learner.Learner.load`."""
        self._package = None
        self._learner.load(Path(folder), fresh_optimizer=fresh_optimizer)

    @property
    def _writes(self) -> bool:
        """Whether this process writes the learner's files."""
        return self._group is None or self._group.rank == 0
