"""Actor and critic on one set of base weights: backbone, LoRA adapter and value head."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import nn

from learner.backbone import Backbone, TokenScores
from learner.batching import TokenBatch
from learner.config import LoraConfig
from learner.families.parts import part_of
from learner.folding import fold_small_adapters
from learner.parallel.group import Group
from learner.scopes import lora_targets, targets_regex
from learner.value_head import ValueHead


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What one forward pass says about B rows."""

    tokens: TokenScores
    """Of the response tokens."""
    values: torch.Tensor
    """float32 [B]: value of the state that the prompt describes."""


class Policy:
    """The model that PPO trains: only the adapter and the value head have gradients.

    Args:
        backbone: frozen base weights; the adapter is injected into its model.
        lora: rank, scale and targets of the adapter.
        value_hidden_sizes: widths of the critic's hidden layers.
        value_gradient_to_backbone: whether values carry a gradient into the adapter.
        banned_token_ids: ids that the sampler never samples; the same list that it was given.
        seed: of the initial adapter and value head. torch's global generator is left as it was.
    """

    def __init__(
        self,
        backbone: Backbone,
        lora: LoraConfig,
        *,
        value_hidden_sizes: tuple[int, ...],
        value_gradient_to_backbone: bool,
        banned_token_ids: Collection[int],
        seed: int,
    ) -> None:
        self.backbone = backbone
        self.lora = lora
        self.lora_targets = lora_targets(backbone.model, lora.targets, lora.pattern)
        self.banned_mask = backbone.banned_mask(banned_token_ids)
        self._value_gradient = value_gradient_to_backbone
        config = PeftLoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=targets_regex(self.lora_targets),
            bias="none",
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.peft_model: PeftModel = get_peft_model(backbone.model, config)  # type: ignore[assignment]
            self.value_head = ValueHead(backbone.hidden_size, value_hidden_sizes).to(backbone.device)
        self.peft_model.eval()
        fold_small_adapters(self.peft_model)
        backbone.vision.frozen = all(part_of(name) == "language" for name in self.lora_targets)

    def evaluate(self, batch: TokenBatch, *, entropies: bool = False, collision_probs: bool = False) -> Evaluation:
        """Token scores and values of one batch in one forward pass, with gradient where torch records one.

        `entropies` and `collision_probs` ask for more of each token's distribution (see `TokenScores`).
        """
        batch = batch.to(self.backbone.device)
        hidden = self.backbone.hidden_states(batch)
        tokens = self.backbone.token_scores(
            batch, hidden, self.banned_mask, entropies=entropies, collision_probs=collision_probs
        )
        return Evaluation(tokens, self._values(hidden))

    def log_probs(self, batch: TokenBatch, *, ban: bool = True) -> torch.Tensor:
        """Log-probs of the response tokens, float32 [B, T]; `ban=False` takes the whole vocabulary."""
        batch = batch.to(self.backbone.device)
        mask = self.banned_mask if ban else None
        return self.backbone.token_scores(batch, self.backbone.hidden_states(batch), mask).log_probs

    def values(self, batch: TokenBatch) -> torch.Tensor:
        """Values of the prompts, float32 [B]; the responses, if any, are not looked at."""
        batch = batch.to(self.backbone.device)
        return self._values(self.backbone.hidden_states(batch))

    @property
    def group(self) -> Group:
        """The processes that hold this very policy and share the work on it."""
        return self.backbone.group

    @contextlib.contextmanager
    def adapter_off(self) -> Iterator[None]:
        """Inside, log-probs are the base model's. Values are then meaningless."""
        with self.peft_model.disable_adapter():
            yield

    @contextlib.contextmanager
    def adapter_dropout(self, seed: int) -> Iterator[None]:
        """Inside, the adapter's dropout is active; the base model's own never is.

        torch's global generator is seeded on entry and put back on exit.
        """
        layers = [m for n, m in self.peft_model.named_modules() if ".lora_dropout." in n and isinstance(m, nn.Dropout)]
        for layer in layers:
            layer.train()
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                yield
        finally:
            for layer in layers:
                layer.eval()

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Trainable adapter weights (float32) by name, in a fixed order."""
        return {n: p for n, p in self.peft_model.named_parameters() if ".lora_" in n}

    def value_parameters(self) -> dict[str, nn.Parameter]:
        """Value head weights by name, in a fixed order."""
        return dict(self.value_head.named_parameters())

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Adapter and value head by name, in the order in which optimizers number them."""
        return self.adapter_parameters() | {f"value_head.{n}": p for n, p in self.value_parameters().items()}

    def _values(self, hidden: torch.Tensor) -> torch.Tensor:
        states = hidden[:, 0]
        return self.value_head(states if self._value_gradient else states.detach())
