"""The original's second bug: every sample re-scored under the very first prompt of the run, shown on a run of your own.

RL4VLM keeps no prompts with its samples. Its update scores each response under the text of the run's first prompt (an
empty formula) beside the right picture, and divides by log-probs that were taken under the true prompt. The importance
ratios of the first update, which are 1 before any optimizer step, then are not:

    python -m docs.examples.wrong_prompt runs/ezpoints
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from actors.vocabulary import banned_token_ids
from cluster.record.trajectory_files import read_frames
from learner.backbone import Backbone
from learner.batching import collate_tokens, microbatches, pad_right
from learner.config import ComputeConfig
from learner.losses import response_log_probs
from learner.rows import Rows, gather_rows
from protocol.codec import TrajectoryBatch, encode_frames
from protocol.trajectory import Frame

THOUGHT_WEIGHT, CLIP = 0.5, 0.1
"""The original's lambda and PPO clip."""

BATCH_TOKENS = 4096


def rows_of_first_update(trajectories: Path) -> Rows:
    """What version 0 sampled, which is the base model: its adapter is still without effect."""
    steps = pq.read_table(trajectories / "steps-000001.parquet").combine_chunks()
    frames = encode_frames([Frame(digest, data) for digest, data in read_frames(trajectories).items()])
    return gather_rows([TrajectoryBatch(steps.to_batches()[0], frames)])


def ratios(backbone: Backbone, banned: list[int], rows: Rows, prompts: list[np.ndarray]) -> np.ndarray:
    """Importance ratio of every row's lambda-weighted response, float [N], if it had been given these prompts."""
    found = np.empty(len(rows))
    mask = backbone.banned_mask(banned)
    lengths = np.array([len(p) + len(r) for p, r in zip(prompts, rows.responses, strict=True)])
    for group in microbatches(lengths, np.arange(len(rows)), BATCH_TOKENS):
        batch = collate_tokens(
            [prompts[i] for i in group],
            [rows.responses[i] for i in group],
            [rows.digests[i] for i in group],
            rows.frames,
            backbone.pad_id,
            rows.temperatures[group],
        )
        with torch.no_grad():
            now = backbone.token_scores(batch, backbone.hidden_states(batch), mask).log_probs
        then = pad_right([rows.behavior_log_probs[i] for i in group], np.dtype(np.float32))[0]
        roles = pad_right([rows.roles[i] for i in group], np.dtype(np.int8))[0]
        weights = torch.full((len(group),), THOUGHT_WEIGHT)
        log_ratios = response_log_probs(now - then, roles, batch.response_mask, weights).weighted
        found[group] = log_ratios.exp().numpy()
    return found


def main() -> None:
    """Print how far the ratios are from 1 under either prompt."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="a run directory whose prompts differ, such as one of EZPoints")
    run = parser.parse_args().run
    model = run / "model"
    rows = rows_of_first_update(run / "trajectories")
    backbone = Backbone.load(model, ComputeConfig())
    banned = list(banned_token_ids(str(model)))
    print(f"{len(rows)} rows of the first update, before any optimizer step")
    for label, prompts in (("own prompt", rows.prompts), ("first prompt of the run", [rows.prompts[0]] * len(rows))):
        ratio = ratios(backbone, banned, rows, prompts)
        outside = np.abs(ratio - 1) > CLIP
        print(
            f"{label}: ratio median {np.median(ratio):.3g}, 5 % to 95 % {np.quantile(ratio, 0.05):.2g} to "
            f"{np.quantile(ratio, 0.95):.2g}; outside 1 +- {CLIP}: {outside.mean():.1%}"
        )


if __name__ == "__main__":
    main()
