"""What the `learner` benchmark trains: models of two sizes, rows of real card games, and the settings of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from actors.vocabulary import Vocabulary
from cluster.config.env import EnvConfig
from cluster.config.stages import DemonstrationConfig
from cluster.stages.model import corpus_of, image_sizes, make_demonstrations
from learner.algorithms.config import PPOConfig
from learner.backbone import Backbone
from learner.config import ComputeConfig, LearnerConfig, SFTConfig
from learner.policy import Policy
from learner.preparation import sampled_log_probs
from learner.rows import Rows, gather_rows
from learner.tiny.builder import build_tiny_vlm
from learner.tiny.config import TinyVLMConfig
from learner.tiny.corpus import TinyCorpus
from protocol.codec import TrajectoryBatch

SIZES = {
    "0.34M": TinyVLMConfig(),
    "1.4M": TinyVLMConfig(hidden_size=128, heads=4, layers=4, intermediate_size=512),
}
"""Models by their parameters: the default tiny one, and one four times as large."""

SEED = 0
ADAPTER_NOISE = 0.02
"""Standard deviation of the B matrices, which start at 0: then A has a gradient to compare from the first step."""

COMPUTE = (
    ComputeConfig(device="cuda", threads=1, precision="bfloat16", fused_optimizer=True, micro_batch_tokens=65_536)
    if torch.cuda.is_available()
    else ComputeConfig(device="cpu", threads=1)
)
"""For both contenders: float32 on one thread, or bfloat16 on a GPU."""

PPO_SETTINGS = LearnerConfig(
    compute=COMPUTE,
    ppo=PPOConfig(
        gamma=0.95,
        learning_rate=1e-3,
        value_learning_rate=3e-3,
        epochs=3,
        minibatch_size=128,
        thought_weight=0.5,
        warmup_updates=2,
    ),
)
"""As in the shipped recipe."""


@dataclass(frozen=True)
class Case:
    """A game played by the model of one size."""

    game: str
    size: str

    @property
    def name(self) -> str:
        """As in the tables."""
        return f"{self.game}, {self.size}"

    @property
    def env(self) -> EnvConfig:
        """The game as a run would have it."""
        return EnvConfig(id=f"gym_cards/{self.game}-v0")


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Model and data of a case."""

    folder: Path
    demonstrations: tuple[TrajectoryBatch, ...]
    rows: Rows
    """The same, ready to learn from."""

    @property
    def banned(self) -> tuple[int, ...]:
        """Ids that a sampler would never sample."""
        return tuple(Vocabulary.from_folder(self.folder).banned_token_ids)

    @property
    def tokens(self) -> int:
        """Prompt and response tokens of all rows."""
        return int(self.rows.lengths.sum())


def build_world(case: Case, steps: int, noise: float, folder: Path) -> World:
    """Build the model below `folder`, unless it is there, and let the game's expert play `steps` steps.

    Args:
        case: model and game.
        steps: rows.
        noise: share of random actions.
        folder: where models go.
    """
    model, size = folder / f"{case.game}-{case.size}", SIZES[case.size]
    if not model.exists():
        build_tiny_vlm(size, TinyCorpus(*corpus_of(case.env, SEED)), SEED, model)
    counts = dict.fromkeys(image_sizes(case.env), size.image_tokens)
    shown = DemonstrationConfig(steps=steps, noise=noise)
    batches = make_demonstrations(case.env, str(model), counts, shown, SEED).batches
    return World(model, batches, gather_rows(batches))


def fresh_policy(world: World, settings: LearnerConfig) -> Policy:
    """The policy that an update starts from: the same adapter and critic at every call."""
    policy = Policy(
        Backbone.load(world.folder, settings.compute),
        settings.lora,
        value_hidden_sizes=settings.ppo.value_hidden_sizes,
        value_gradient_to_backbone=settings.ppo.value_gradient_to_backbone,
        banned_token_ids=world.banned,
        seed=SEED,
    )
    disturb(policy.adapter_parameters())
    return policy


def disturb(adapter: dict[str, torch.nn.Parameter]) -> None:
    """Move the B matrices of a fresh adapter away from 0."""
    draw = torch.Generator().manual_seed(SEED)
    for name, parameter in adapter.items():
        if ".lora_B." in name:
            parameter.data += ADAPTER_NOISE * torch.randn(parameter.shape, generator=draw)


def sampled_rows(world: World, settings: LearnerConfig) -> Rows:
    """The world's rows as if the fresh policy had sampled them: with its own log-probs."""
    found = sampled_log_probs(fresh_policy(world, settings), world.rows, np.arange(len(world.rows)), 4096)
    return replace(world.rows, behavior_log_probs=[log_probs for log_probs in found if log_probs is not None])


def sft_settings(steps: int) -> SFTConfig:
    """Supervised fine-tuning as in the shipped recipe."""
    return SFTConfig(steps=steps, batch_size=64, learning_rate=2e-3, warmup_steps=30)
