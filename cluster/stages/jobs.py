"""What stages have done in the learner's process, where torch is loaded and rows are: plain functions.

The learner's Ray actor calls them (`LearnerActor.perform`) with a function that reports progress.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ray

from actors.vocabulary import Vocabulary, banned_token_ids
from cluster.record.trajectory_files import TrajectoryFiles, read_batch
from cluster.runtime.waiting import wait_for
from learner.config import ComputeConfig, LearnerConfig
from learner.stage_settings import DPOConfig, PairConfig
from protocol.codec import TrajectoryBatch, list_rows
from protocol.errors import TrajectoryError

Report = Callable[[int, Mapping[str, float]], None]
"""Step (from 1) and its metrics."""

FETCH_TIMEOUT_S = 600.0
"""Longest wait for a rollout's batches to arrive from the workers' nodes, in seconds."""

COMPARED_ROWS = 64
"""How many rows of a folder are read again, to see that their tokens mean the same to the model."""


def keep_rows(report: Report, folder: str, number: int, batches: Sequence[ray.ObjectRef]) -> None:
    """Fetch the batches of a rollout and keep them as Parquet, as an update would, without learning from them."""
    received: list[TrajectoryBatch] = wait_for(batches, "the rollout's batches", FETCH_TIMEOUT_S)
    TrajectoryFiles(Path(folder)).write(number, received)


def prefer(
    report: Report,
    model: str,
    folder: str,
    config: DPOConfig,
    pairing: PairConfig,
    learner: LearnerConfig,
    seed: int,
    out_dir: str,
) -> dict[str, float]:
    """Direct preference optimisation on the rows of a folder; see `learner.dpo.run_dpo`."""
    from learner.dpo import run_dpo

    batch = sampled_rows(folder, model)
    return run_dpo(
        model,
        [batch],
        config,
        pairing,
        learner,
        banned_token_ids(model),
        seed=seed,
        out_dir=out_dir,
        published=versions_in(batch),
        on_step=report,
    )


def merge(report: Report, model: str, adapter: str, out_dir: str, compute: ComputeConfig) -> None:
    """Merge an adapter into a model; see `learner.model_writer.merge_adapter`."""
    from learner.model_writer import merge_adapter

    merge_adapter(model, adapter, out_dir, compute)


def sampled_rows(folder: str, model: str) -> TrajectoryBatch:
    """The rows of a folder, for this model.

    Raises:
        TrajectoryError: There are none, or they were sampled by a model with other tokens.
    """
    batch, vocabulary = read_batch(Path(folder)), Vocabulary.from_folder(model)
    responses, texts = list_rows(batch.steps.column("response_token_ids")), batch.steps.column("response_text")
    for row in range(0, len(responses), max(1, len(responses) // COMPARED_ROWS)):
        ids, text = responses[row], texts[row].as_py()
        if ids is not None and vocabulary.decode(ids.tolist()) != text:
            raise TrajectoryError(
                f"The rows in {folder} were sampled with another tokenizer: tokens that said {text!r} there say "
                f"{vocabulary.decode(ids.tolist())!r} to {model}.",
                "learn from rows of the same base model, or sample anew (source=null)",
            )
    return batch


def versions_in(batch: TrajectoryBatch) -> dict[int, bytes]:
    """Digest of every policy version that wrote a row: what an RL stage refused is not among the rows on disk."""
    versions, digests = (batch.steps.column(name).to_pylist() for name in ("policy_version", "adapter_digest"))
    return dict(zip(versions, digests, strict=True))
