"""Supervised fine-tuning of the base weights on demonstrations; writes an ordinary Hugging Face folder.

The loss is the mean negative log-prob of the demonstrations' response tokens, whatever their role. A response
ends where the demonstration's does: the sampler stops at the closing brace, so an end token is learnt only if
the demonstrations hold one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from learner.backbone import Backbone
from learner.batching import collate_tokens, microbatches
from learner.config import ComputeConfig, SFTConfig
from learner.model_folder import WEIGHT_SUFFIXES, check_model_folder
from learner.optimizers import clipped_step
from learner.rows import Rows, gather_rows
from learner.schedules import learning_rate_factor
from learner.scopes import in_scope
from learner.screening import screen
from protocol.codec import TrajectoryBatch
from protocol.errors import ModelFolderError, TrajectoryError
from protocol.trajectory import DEMONSTRATION_VERSION, NO_DIGEST
from protocol.validation import AdmissionRules

_REPORTED_STEPS = 10
"""The last steps whose mean loss is reported as the final one."""


def run_sft(
    model_path: str | Path,
    batches: Sequence[TrajectoryBatch],
    config: SFTConfig,
    *,
    seed: int,
    out_dir: str | Path,
    compute: ComputeConfig | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> dict[str, float]:
    """Fine-tune the model of a folder and save it to another.

    Args:
        model_path: Hugging Face folder to start from; it is not changed.
        batches: demonstrations: every row has `policy_version == DEMONSTRATION_VERSION` and no adapter's
            digest.
        config: steps, rates, and which weights are trained.
        seed: of the shuffle.
        out_dir: folder to create; it appears only when complete.
        compute: device, precision and memory; the defaults if left out.
        on_step: called after each step with its number (from 1) and its loss (nats per token).

    Returns:
        Metrics: `steps`, `first_loss`, `final_loss` (mean of the last ten steps), `tokens`, `sft_s`.

    Raises:
        ModelFolderError: The model folder is missing or incomplete, or the result cannot keep its layout.
        FileExistsError: `out_dir` exists and is not an empty folder.
        TrajectoryError: There is no demonstration, or one is invalid.
        UpdateDiverged: A loss or gradient was not finite.
    """
    started_s = time.perf_counter()
    source, out_dir = check_model_folder(model_path), Path(out_dir)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise FileExistsError(f"{out_dir} exists and is not an empty folder: choose another, or remove it")
    compute = compute or ComputeConfig()
    backbone = Backbone.load(source, compute, trainable=True)
    _check_demonstrations(batches, backbone)
    rows = gather_rows(batches)
    losses: list[float] = []
    for loss in _train(backbone, rows, config, compute.micro_batch_tokens, seed):
        losses.append(loss)
        if on_step is not None:
            on_step(len(losses), loss)
    _save(backbone, source, out_dir)
    return {
        "steps": float(len(losses)),
        "first_loss": losses[0],
        "final_loss": float(np.mean(losses[-_REPORTED_STEPS:])),
        "tokens": float(sum(len(response) for response in rows.responses)),
        "sft_s": time.perf_counter() - started_s,
    }


def _check_demonstrations(batches: Sequence[TrajectoryBatch], backbone: Backbone) -> None:
    rules = AdmissionRules(backbone.vocab_size, backbone.image_token_id, {DEMONSTRATION_VERSION: NO_DIGEST})
    rejections = [r for batch in batches for r in screen(batch, rules, backbone.images, ())]
    if rejections:
        first = rejections[0]
        raise TrajectoryError(
            f"{len(rejections)} demonstration(s) are unusable; "
            f"first {first.trajectory_id!r}, step {first.step}: {first.reason}.",
            f"write demonstrations with policy_version {DEMONSTRATION_VERSION} and an all-zero digest",
        )
    if sum(batch.steps.num_rows for batch in batches) == 0:
        raise TrajectoryError("There is no demonstration to learn from.", "ask for at least one")


def _train(backbone: Backbone, rows: Rows, config: SFTConfig, token_budget: int, seed: int) -> Iterator[float]:
    """Make one optimizer step per yielded loss."""
    parameters = _unfreeze(backbone, config)
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    indices = _batches(len(rows), config.batch_size, seed)
    for step in range(config.steps):
        factor = learning_rate_factor(config.schedule, step, warmup=config.warmup_steps, total=config.steps, final=0.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        loss = _accumulate(backbone, rows, next(indices), token_budget)
        clipped_step(optimizer, [("model", parameters)], max_norm=config.max_grad_norm, loss=loss)
        yield loss


def _unfreeze(backbone: Backbone, config: SFTConfig) -> list[nn.Parameter]:
    chosen = [p for name, p in backbone.model.named_parameters() if in_scope(name, config.trainable)]
    for parameter in chosen:
        parameter.requires_grad_(True)
    backbone.vision.frozen = config.trainable == "language"
    return chosen


def _batches(count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Row indices of each step: full batches through one shuffle of all rows after another, without end."""
    generator = torch.Generator().manual_seed(seed)
    stream = np.empty(0, dtype=np.int64)
    while True:
        while len(stream) < batch_size:
            stream = np.concatenate([stream, torch.randperm(count, generator=generator).numpy()])
        yield stream[:batch_size]
        stream = stream[batch_size:]


def _accumulate(backbone: Backbone, rows: Rows, index: np.ndarray, token_budget: int) -> float:
    """Add the gradient of the mean loss over all response tokens of the rows at `index`; returns that
    loss."""
    tokens = sum(len(rows.responses[i]) for i in index)
    total = 0.0
    for group in microbatches(rows.lengths, index, token_budget):
        batch = collate_tokens(  # no temperatures: the model itself is fitted, at 1
            [rows.prompts[i] for i in group],
            [rows.responses[i] for i in group],
            [rows.digests[i] for i in group],
            rows.frames,
            backbone.pad_id,
        ).to(backbone.device)
        loss = -backbone.token_scores(batch, backbone.hidden_states(batch)).log_probs.sum() / tokens
        loss.backward()
        total += float(loss.detach())
    return total


def _save(backbone: Backbone, source: Path, out_dir: Path) -> None:
    """Write weights and configuration, and copy tokenizer and processor files as they are."""
    staging = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        backbone.model.to(backbone.storage_dtype).save_pretrained(staging)
        for file in sorted(source.iterdir()):
            is_weight = file.name.endswith(WEIGHT_SUFFIXES)
            if file.is_file() and not is_weight and not (staging / file.name).exists():
                shutil.copy2(file, staging)
        unknown = _keys(staging) - _keys(source)
        if unknown:
            raise ModelFolderError(
                f"Saving {str(source)!r} renamed {len(unknown)} weights, first {min(unknown)!r}; "
                "vLLM could not load the result.",
                "use a transformers version that keeps this family's key names",
            )
        if out_dir.exists():
            out_dir.rmdir()
        staging.rename(out_dir)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _keys(folder: Path) -> set[str]:
    """Names of all tensors in a folder's safetensors files."""
    keys: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as handle:
            keys.update(handle.keys())
    return keys
