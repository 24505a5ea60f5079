"""The run directory: where everything a run leaves behind has its place.

Files appear under a temporary name and are renamed when complete, so that a reader never meets half a file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.errors import CheckpointError, ConfigError

STATE_FILE = "run_state.json"


class RunDir:
    """Paths of one run, and the few operations on them."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @classmethod
    def create(cls, runs_dir: str | Path, name: str) -> RunDir:
        """Make `runs_dir/name`, or `name-2`, `name-3`, ... where that exists.

        Raises:
            ConfigError: Nothing can be written there.
        """
        parent = Path(runs_dir)
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"runs_dir is {str(runs_dir)!r}: {error.strerror}.", "set runs_dir=...") from error
        attempt = 1
        while True:
            root = parent / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                root.mkdir()
                return cls(root)
            except FileExistsError:
                attempt += 1

    @classmethod
    def open(cls, root: str | Path) -> RunDir:
        """An existing run.

        Raises:
            CheckpointError: The folder is no run directory.
        """
        run = cls(Path(root))
        if not run.config.is_file():
            raise CheckpointError(
                f"{root} is no run directory: it has no config.yaml.", "name a folder that `croupier train` wrote"
            )
        return run

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def card(self) -> Path:
        """Versions, seeds, hardware and results."""
        return self.root / "card.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per update."""
        return self.root / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard events."""
        return self.root / "tensorboard"

    @property
    def base_model(self) -> Path:
        """The tiny model before supervised fine-tuning."""
        return self.root / "base_model"

    @property
    def model(self) -> Path:
        """The model that adapters belong to (after supervised fine-tuning)."""
        return self.root / "model"

    @property
    def merged_model(self) -> Path:
        """The model with the adapter of an RL stage merged in, for what follows that stage."""
        return self.root / "merged_model"

    @property
    def samples(self) -> Path:
        """What a stage's sampling amounted to; there when it is complete."""
        return self.root / "samples.json"

    def stage(self, number: int, name: str) -> RunDir:
        """Folder of the n-th stage (from 1): laid out as a run directory of its own."""
        return RunDir(self.root / "stages" / f"{number}-{name}")

    @property
    def trajectories(self) -> Path:
        """Parquet files in the schema of the wire."""
        return self.root / "trajectories"

    @property
    def checkpoints(self) -> Path:
        """One folder per saved update, named by its number."""
        return self.root / "checkpoints"

    def has_checkpoint(self) -> bool:
        """Whether there is a complete checkpoint to go on from."""
        return bool(self._complete_checkpoints())

    def latest_checkpoint(self) -> Path:
        """Folder of the newest complete checkpoint.

        Raises:
            CheckpointError: There is none.
        """
        found = self._complete_checkpoints()
        if not found:
            raise CheckpointError(
                f"{self.root} holds no complete checkpoint.", "let the run reach its first checkpoint, or start anew"
            )
        return found[-1]

    def write_checkpoint(self, update: int, state: dict[str, Any], fill: Callable[[Path], None], keep: int) -> Path:
        """Write `checkpoints/<update>`: `fill` writes the learner's part, the run's `state` comes beside it.

        A complete checkpoint is never touched again: one of the same update is returned as it is.

        Args:
            update: Number of policy updates done.
            state: Plain JSON values.
            fill: Called with the folder to create; must not return before everything is on disk.
            keep: How many of the newest checkpoints stay.
        """
        final = self.checkpoints / f"{update:06d}"
        if final in self._complete_checkpoints():
            return final
        self._remove_partial()
        partial = self._partial(final)
        self.checkpoints.mkdir(exist_ok=True)
        fill(partial)
        write_state(partial, state)
        partial.rename(final)
        for old in self._complete_checkpoints()[:-keep]:
            old.rename(self._partial(old))  # half-removed, it must not look complete
        self._remove_partial()
        return final

    @staticmethod
    def _partial(final: Path) -> Path:
        return final.with_name(f".{final.name}.partial")

    def _remove_partial(self) -> None:
        for folder in self.checkpoints.glob(".*.partial"):
            shutil.rmtree(folder)

    def _complete_checkpoints(self) -> list[Path]:
        found = [p for p in self.checkpoints.glob("*") if p.name.isdecimal() and (p / STATE_FILE).is_file()]
        return sorted(found, key=lambda p: int(p.name))


def write_state(checkpoint: Path, state: dict[str, Any]) -> None:
    """Write the run's part of a checkpoint; it comes last, because it marks the folder as complete."""
    (checkpoint / STATE_FILE).write_text(json.dumps(state))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The run's part of a checkpoint.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        return json.loads((checkpoint / STATE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint / STATE_FILE} cannot be read: {error}", "remove that checkpoint, an older one may be whole"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON under a temporary name, then rename; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)
