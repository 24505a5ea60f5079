"""Rollout workers over the counting environment, and what tests look at in their rows."""

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.prompting import PromptEncoder
from actors.report import RolloutReport
from actors.sampler import Sample, SampleRequest
from actors.streaming import StreamingWorker
from actors.worker import RolloutWorker
from protocol.codec import TrajectoryBatch, decode_steps
from protocol.trajectory import NO_DIGEST, Step
from protocol.validation import AdmissionRules, validate
from tests.actors.counting import CountingEnv, CountingTask, CrashingTask

VERSION = 3
IMAGE_ID = 4
MODES = pytest.mark.parametrize("deterministic", [False, True], ids=["free", "rounds"])


def make_worker(folder: Path, sampler: Any, **changes: Any) -> RolloutWorker:
    return RolloutWorker(**arguments_of(folder, sampler, changes))


def make_streaming_worker(folder: Path, sampler: Any, **changes: Any) -> StreamingWorker:
    return StreamingWorker(**arguments_of(folder, sampler, changes))


def arguments_of(folder: Path, sampler: Any, changes: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "run_id": "run",
        "worker_id": "worker-0",
        "make_env": lambda: (CountingEnv(), CountingTask()),
        "encoder": PromptEncoder(folder),
        "slots": 2,
        "max_tokens": 64,
        "seed": 0,
    }
    return {"sampler": sampler, **settings, **changes}


def crashing_worker(folder: Any, sampler: Any, **settings: Any) -> RolloutWorker:
    return make_worker(folder, sampler, make_env=lambda: (CountingEnv(), CrashingTask()), **settings)


def collect(worker: RolloutWorker, num_steps: int, temperature: float = 1.0) -> tuple[list[Step], RolloutReport]:
    batch, report = asyncio.run(worker.collect(num_steps, VERSION, temperature))
    return checked_rows(batch), report


def checked_rows(batch: TrajectoryBatch) -> list[Step]:
    """The rows of a batch that the learner would take without complaint."""
    rules = AdmissionRules(vocab_size=1024, image_token_id=IMAGE_ID, published={VERSION: NO_DIGEST})
    assert validate(batch, rules) == []
    return decode_steps(batch.steps)


def content(row: Step) -> dict[str, Any]:
    """All of a row that does not depend on the clock."""
    names = {field.name for field in fields(Step)} - {"sample_s", "env_s"}
    values = {name: getattr(row, name) for name in names}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def contents(rows: Sequence[Step]) -> list[dict[str, Any]]:
    return [content(row) for row in rows]


class Silent:
    """Answers nobody; counts who waits and who was told to stop."""

    def __init__(self) -> None:
        self.waiting = self.cancelled = 0

    async def sample_batch(self, requests: Sequence[SampleRequest]) -> list[Sample]:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.cancelled += 1
            raise
        raise AssertionError("unreachable")
