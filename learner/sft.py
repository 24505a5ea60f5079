"""Supervised fine-tuning of the base weights on demonstrations or on a policy's own good rows.

Writes an ordinary Hugging Face folder. The loss is the mean negative log-prob of the rows' response tokens, whatever
their role. A response ends where the row's does: the sampler stops at the closing brace, so an end token is learnt
only if the rows hold one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from learner.backbone import Backbone
from learner.batching import collate_tokens
from learner.config import ComputeConfig, SFTConfig
from learner.model_folder import check_model_folder
from learner.model_writer import check_new_folder, save_model
from learner.optimizers import clipped_step
from learner.outcomes import read_outcomes
from learner.parallel.dealing import deal_passes
from learner.parallel.group import ALONE, Group, add_up_gradients
from learner.parallel.sharding import is_sharded, optimizer_groups
from learner.rows import Rows, gather_rows
from learner.schedules import learning_rate_factor
from learner.scopes import in_scope
from learner.screening import screen
from learner.selection import select_rows
from learner.stage_settings import SelectionConfig
from protocol.codec import TrajectoryBatch
from protocol.errors import TrajectoryError
from protocol.trajectory import DEMONSTRATION_VERSION, NO_DIGEST
from protocol.validation import AdmissionRules

REPORTED_STEPS = 10
"""The last steps whose mean loss is reported as the final one."""

DEMONSTRATIONS_ONLY: Mapping[int, bytes] = {DEMONSTRATION_VERSION: NO_DIGEST}
"""The versions of rows that a scripted expert wrote."""


def run_sft(
    model_path: str | Path,
    batches: Sequence[TrajectoryBatch],
    config: SFTConfig,
    *,
    seed: int,
    out_dir: str | Path,
    compute: ComputeConfig | None = None,
    on_step: Callable[[int, float], None] | None = None,
    published: Mapping[int, bytes] = DEMONSTRATIONS_ONLY,
    selection: SelectionConfig | None = None,
    group: Group = ALONE,
) -> dict[str, float]:
    """Fine-tune the model of a folder and save it to another.

    Args:
        model_path: Hugging Face folder to start from; it is not changed.
        batches: what is learnt from. Rows whose text named no legal action are left out: what was then played is not
            what they say.
        config: steps, rates, and which weights are trained.
        seed: of the shuffle.
        out_dir: folder to create; it appears only when complete.
        compute: device, precision and memory; the defaults if left out.
        on_step: called after each step with its number (from 1) and its loss (nats per token).
        published: digest of every policy version that the rows may be of; if left out, they must be demonstrations,
            with `policy_version == DEMONSTRATION_VERSION` and no adapter's digest.
        selection: learn from the rows of successful episodes alone (see `learner.selection`); None: from all.
        group: the processes that train together, all with the same arguments; rank 0 saves.

    Returns:
        Metrics: `steps`, `first_loss`, `final_loss` (mean of the last ten steps), `tokens`, `sft_s`; with a selection
        also what it was made of.

    Raises:
        ModelFolderError: The model folder is missing or incomplete, or the result cannot keep its layout.
        FileExistsError: `out_dir` exists and is not an empty folder.
        TrajectoryError: There is no row to learn from, or one is invalid.
        UpdateDiverged: A loss or gradient was not finite.
        LearnerGroupBroken: Another process of the group is gone, late, or ended up with other weights.
    """
    started_s = time.perf_counter()
    source, out_dir = check_model_folder(model_path), Path(out_dir)
    check_new_folder(out_dir)
    compute = compute or ComputeConfig()
    backbone = Backbone.load(source, compute, trainable=True, group=group)
    check_rows(batches, backbone, published)
    rows = gather_rows(batches)
    index, chosen = np.flatnonzero(rows.legal), {}
    _check_any(index, len(rows))
    if selection is not None:
        selected = select_rows(rows, read_outcomes(batches, rows), selection, seed)
        index, chosen = selected.index, selected.metrics
    losses: list[float] = []
    for loss in _train(backbone, rows, index, config, compute, seed):
        losses.append(loss)
        if on_step is not None:
            on_step(len(losses), loss)
    group.require_equal({n: p for n, p in backbone.model.named_parameters() if not is_sharded(p)})
    save_model(backbone, source, out_dir)
    return {
        **chosen,
        "steps": float(len(losses)),
        "first_loss": losses[0],
        "final_loss": float(np.mean(losses[-REPORTED_STEPS:])),
        "tokens": float(sum(len(rows.responses[i]) for i in index)),
        "sft_s": time.perf_counter() - started_s,
    }


def check_rows(batches: Sequence[TrajectoryBatch], backbone: Backbone, published: Mapping[int, bytes]) -> None:
    """Refuse rows that cannot be learnt from by this model; see `learner.screening`.

    Raises:
        TrajectoryError: There is no row, or one is invalid; the message names the first.
    """
    rules = AdmissionRules(backbone.vocab_size, backbone.image_token_id, published)
    rejections = [r for batch in batches for r in screen(batch, rules, backbone.images, ())]
    if rejections:
        first = rejections[0]
        demonstrations = DEMONSTRATION_VERSION in published
        raise TrajectoryError(
            f"{len(rejections)} {'demonstration(s)' if demonstrations else 'trajectories'} are unusable; "
            f"first {first.trajectory_id!r}, step {first.step}: {first.reason}.",
            f"write demonstrations with policy_version {DEMONSTRATION_VERSION} and an all-zero digest"
            if demonstrations
            else "take rows that were sampled from this model's own family, vocabulary and image processor",
        )
    if sum(batch.steps.num_rows for batch in batches) == 0:
        raise TrajectoryError("There is no demonstration to learn from.", "ask for at least one")


def _check_any(index: np.ndarray, total: int) -> None:
    if not len(index):
        raise TrajectoryError(
            f"None of the {total} rows names a legal action, so there is nothing to imitate.",
            "demonstrate with fewer mistakes, or take rows of a policy that plays legally",
        )


def _train(
    backbone: Backbone, rows: Rows, index: np.ndarray, config: SFTConfig, compute: ComputeConfig, seed: int
) -> Iterator[float]:
    """Make one optimizer step on rows of `index` per yielded loss."""
    parameters = _unfreeze(backbone, config)
    optimizer = torch.optim.AdamW(
        optimizer_groups(parameters),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=compute.fused_optimizer or None,
    )
    places = batches_of(len(index), config.batch_size, seed)
    for step in range(config.steps):
        factor = learning_rate_factor(config.schedule, step, warmup=config.warmup_steps, total=config.steps, final=0.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        loss = _accumulate(backbone, parameters, rows, index[next(places)], compute.micro_batch_tokens)
        clipped_step(optimizer, [("model", parameters)], max_norm=config.max_grad_norm, loss=loss)
        yield loss


def _unfreeze(backbone: Backbone, config: SFTConfig) -> list[nn.Parameter]:
    chosen = [p for name, p in backbone.model.named_parameters() if in_scope(name, config.trainable)]
    for parameter in chosen:
        parameter.requires_grad_(True)
    backbone.vision.frozen = config.trainable == "language"
    return chosen


def batches_of(count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Places below `count` for each step: full batches through one shuffle after another, without end."""
    generator = torch.Generator().manual_seed(seed)
    stream = np.empty(0, dtype=np.int64)
    while True:
        while len(stream) < batch_size:
            stream = np.concatenate([stream, torch.randperm(count, generator=generator).numpy()])
        yield stream[:batch_size]
        stream = stream[batch_size:]


def _accumulate(
    backbone: Backbone, parameters: list[nn.Parameter], rows: Rows, index: np.ndarray, token_budget: int
) -> float:
    """Add the gradient of the mean loss over all response tokens of the rows at `index`; returns that
    loss."""
    tokens = sum(len(rows.responses[i]) for i in index)
    total = torch.zeros(1, dtype=torch.float64)
    for part in deal_passes(backbone.group, rows.lengths, index, token_budget, backbone.state_of(rows)):
        batch = collate_tokens(  # no temperatures: the model itself is fitted, at 1
            [rows.prompts[i] for i in part.rows],
            [rows.responses[i] for i in part.rows],
            [rows.digests[i] for i in part.rows],
            rows.frames,
            backbone.pad_id,
        ).to(backbone.device)
        loss = -backbone.token_scores(batch, backbone.hidden_states(batch)).log_probs.sum() / tokens
        (loss * part.weight).backward()
        total += float(loss.detach()) * part.weight
    add_up_gradients(backbone.group, parameters, [total])
    return float(total)
