"""A vision-language model read from a folder: hidden states, and log-probs of given response tokens.

What differs between families of models is in `learner.families`.
Knows neither adapters nor losses; policy and supervised fine-tuning are built on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as transformers_logging

from learner.batching import State, TokenBatch
from learner.config import ComputeConfig
from learner.devices import resolve_device
from learner.images import FrameProcessor
from learner.model_folder import check_model_folder
from learner.parallel.group import ALONE, Group
from learner.parallel.sharding import shard_language_model
from learner.products import multiply_patches, onednn_is_faster, quicken_linear_layers
from learner.quantization import keep_differentiable, loading_options
from learner.reading import PackedReader, PlainReader, StateReader, can_be_packed
from learner.recomputation import recompute_layers
from learner.rows import Rows
from learner.vision import VisionEncoder
from learner.vision_attention import attend_by_size


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """What the model says of B sampled responses, float32 [B, T] each; 0 at padding."""

    log_probs: torch.Tensor
    """Log-prob of each response token."""
    entropies: torch.Tensor | None = None
    """Entropy of the distribution that each token was drawn from, in nats; None if not asked for."""
    collision_probs: torch.Tensor | None = None
    """Sum over the vocabulary of p^2, without gradient; None if not asked for."""


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Backbone:
    """Base weights and everything needed to feed them.

    Attributes:
        model: the Hugging Face model, in eval mode. An adapter may be injected into it in place.
        images: frames to image inputs.
        vision: frames to features.
        vocab_size: rows of the output layer; ids are in [0, vocab_size).
        image_token_id: the placeholder id.
        pad_id: id that fills batches; never the placeholder.
        device: where the weights are.
        storage_dtype: type in which weights are written to files.
        group: the processes that hold these weights together, each a copy or a shard.
    """

    def __init__(self, model: Any, processor: Any, compute: ComputeConfig, group: Group = ALONE) -> None:
        self.model = model.eval()
        self.group = group
        self.device: torch.device = model.device
        self.vocab_size: int = model.get_output_embeddings().weight.shape[0]
        self.hidden_size: int = model.get_output_embeddings().weight.shape[1]
        self.image_token_id: int = model.config.image_token_id
        tokenizer = processor.tokenizer
        self.pad_id: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.images = FrameProcessor(processor, compute.pixel_cache_bytes)
        self.vision = VisionEncoder(model, self.images, compute.frame_cache_frames)
        self.storage_dtype = _DTYPES[compute.precision]
        self._autocast = compute.precision == "bfloat16"
        if onednn_is_faster():
            quicken_linear_layers(model)
        multiply_patches(model)
        attend_by_size(model)
        self._reader = self._make_reader(compute)
        if compute.gradient_checkpointing:
            recompute_layers(model)
        self._shares_prompts = compute.shared_prompts and isinstance(self._reader, PackedReader)

    @classmethod
    def load(
        cls, path: str | Path, compute: ComputeConfig, *, trainable: bool = False, group: Group = ALONE
    ) -> Backbone:
        """Read a model folder; every weight starts out frozen.

        Args:
            path: the folder.
            compute: device, precision and memory.
            trainable: keep the weights in float32 whatever precision and quantization, so that small steps are
                not rounded away.
            group: the processes that load it together, all with the same arguments.

        Raises:
            ModelFolderError: The folder is missing or incomplete.
            ConfigError: 4-bit weights are asked for, and the library for them is missing.
        """
        folder = check_model_folder(path)
        if compute.threads is not None:
            torch.set_num_threads(compute.threads)
        transformers_logging.disable_progress_bar()
        device = resolve_device(compute.device)
        dtype = torch.float32 if trainable else _DTYPES[compute.precision]
        packed = {} if trainable else loading_options(compute, device)
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True, **packed)
        keep_differentiable(model)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model.requires_grad_(False)
        if compute.sharding == "fsdp" and group.size > 1:
            # Before the whole model is moved: only a shard of it need fit on the device.
            shard_language_model(model, device, group.size)
        return cls(model.to(device), processor, compute, group)

    def _make_reader(self, compute: ComputeConfig) -> StateReader:
        if compute.packing and can_be_packed(self.model):
            return PackedReader(
                self.model, self.vision, self.image_token_id, self.pad_id, share_prompts=compute.shared_prompts
            )
        return PlainReader(self.model, self.vision, self.image_token_id)

    def state_of(self, rows: Rows) -> Callable[[int], State] | None:
        """State of each row, if a pass over several rows of one state computes their prompt once; else None."""
        return rows.state if self._shares_prompts else None

    def hidden_states(self, batch: TokenBatch) -> torch.Tensor:
        """States [B, max(T, 1), H] that predict the response tokens; entry 0 stands at the prompt's end.

        After the final norm; entries at padding mean nothing.

        Raises:
            TrajectoryError: A frame is missing or unreadable, or placeholders and image tokens differ in number.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            return self._reader.read(batch)

    def token_scores(
        self,
        batch: TokenBatch,
        hidden: torch.Tensor,
        banned_mask: torch.Tensor | None = None,
        *,
        entropies: bool = False,
        collision_probs: bool = False,
    ) -> TokenScores:
        """Log-probs of the response tokens under the distribution they were sampled from.

        log_softmax(logits / temperature) in float32, where banned ids have logit -inf and temperature 0
        (greedy) counts as 1. Logits are computed at response positions only.

        Args:
            batch: the rows, on the model's device.
            hidden: [B, max(T, 1), H] from `hidden_states`.
            banned_mask: bool [V], True = never sampled. None bans nothing.
            entropies, collision_probs: what else to compute, of the same distributions.
        """
        row, column = batch.response_mask.nonzero(as_tuple=True)
        states = hidden[row, column]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            logits = self.model.lm_head(states)
        logits = logits.float()
        if banned_mask is not None:
            logits = logits.masked_fill(banned_mask, -torch.inf)
        temperatures = torch.where(batch.temperatures == 0, 1.0, batch.temperatures)[row, None]
        chosen = batch.response_ids[row, column]
        everything = torch.log_softmax(logits / temperatures, dim=-1)

        def padded(values: torch.Tensor) -> torch.Tensor:
            return values.new_zeros(batch.response_mask.shape).index_put((row, column), values)

        return TokenScores(
            padded(everything.gather(1, chosen[:, None])[:, 0]),
            padded(_entropies(everything, banned_mask)) if entropies else None,
            padded((2 * everything.detach()).exp().sum(-1)) if collision_probs else None,
        )

    def banned_mask(self, banned_token_ids: Collection[int]) -> torch.Tensor:
        """Bool [V] on the model's device: True = the id is banned.

        Raises:
            ValueError: An id lies outside the vocabulary, or every id is banned.
        """
        outside = [i for i in banned_token_ids if not 0 <= i < self.vocab_size]
        if outside:
            raise ValueError(f"banned token id {outside[0]} is outside the vocabulary of {self.vocab_size}")
        mask = torch.zeros(self.vocab_size, dtype=torch.bool)
        mask[list(banned_token_ids)] = True
        if bool(mask.all()):
            raise ValueError(f"all {self.vocab_size} token ids are banned: nothing could ever be sampled")
        return mask.to(self.device)


def _entropies(log_probs: torch.Tensor, banned_mask: torch.Tensor | None) -> torch.Tensor:
    """Entropy of each distribution, [M], from log-probs [M, V]; banned ids (probability 0) add nothing."""
    if banned_mask is not None:
        # 0 * -inf is NaN, in the value as in the gradient.
        log_probs = log_probs.masked_fill(banned_mask, 0.0)
    return -(log_probs.exp() * log_probs).sum(-1)
