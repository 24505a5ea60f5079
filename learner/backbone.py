"""A vision-language model read from a folder: hidden states, and log-probs of given response tokens.

Families are told apart by what their model and processor offer, not by name; Qwen2.5-VL and LLaVA are tested.
Knows neither adapters nor losses; policy and supervised fine-tuning are built on it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as transformers_logging

from learner.batching import TokenBatch
from learner.config import ComputeConfig
from learner.images import FrameProcessor
from learner.model_folder import check_model_folder
from learner.vision import FrameFeatures, VisionEncoder
from protocol.errors import TrajectoryError


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
    """

    def __init__(self, model: Any, processor: Any, compute: ComputeConfig) -> None:
        self.model = model.eval()
        self.device: torch.device = model.device
        self.vocab_size: int = model.get_output_embeddings().weight.shape[0]
        self.hidden_size: int = model.get_output_embeddings().weight.shape[1]
        self.image_token_id: int = model.config.image_token_id
        tokenizer = processor.tokenizer
        self.pad_id: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.images = FrameProcessor(processor, compute.frame_cache_frames)
        self.vision = VisionEncoder(model, self.images, compute.frame_cache_frames)
        self.storage_dtype = _DTYPES[compute.precision]
        self._autocast = compute.precision == "bfloat16"

    @classmethod
    def load(cls, path: str | Path, compute: ComputeConfig, *, trainable: bool = False) -> Backbone:
        """Read a model folder; every weight starts out frozen.

        Args:
            path: the folder.
            compute: device, precision and memory.
            trainable: keep the weights in float32 whatever the precision, so that small steps are not
                rounded away.

        Raises:
            ModelFolderError: The folder is missing or incomplete.
        """
        folder = check_model_folder(path)
        if compute.threads is not None:
            torch.set_num_threads(compute.threads)
        transformers_logging.disable_progress_bar()
        device = compute.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if trainable else _DTYPES[compute.precision]
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, local_files_only=True)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        return cls(model.requires_grad_(False).to(device), processor, compute)

    def hidden_states(self, batch: TokenBatch) -> torch.Tensor:
        """Last-layer hidden states [B, S, H], after the final norm; entries at padding mean nothing.

        Raises:
            TrajectoryError: A frame is missing or unreadable, or placeholders and image tokens differ in number.
        """
        digests = [digest for row in batch.digests for digest in row]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            features = self.vision.features(digests, batch.frames) if digests else []
            # No attention mask: padding sits on the right, where causal attention already hides it.
            return self.model.model.language_model(
                inputs_embeds=self._embeddings(batch.input_ids, features),
                position_ids=self._positions(batch.input_ids, features),
                use_cache=False,
            ).last_hidden_state

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
            hidden: [B, S, H] from `hidden_states`.
            banned_mask: bool [V], True = never sampled. None bans nothing.
            entropies, collision_probs: what else to compute, of the same distributions.
        """
        row, column = batch.response_mask.nonzero(as_tuple=True)
        # The token at response position t is predicted by the state one position before it.
        states = hidden[row, batch.prompt_lengths[row] - 1 + column]
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

    def _embeddings(self, input_ids: torch.Tensor, features: list[FrameFeatures]) -> torch.Tensor:
        """Token embeddings [B, S, H], with image features in place of the placeholders."""
        embeddings = self.model.get_input_embeddings()(input_ids)
        image_mask = input_ids == self.image_token_id
        placeholders, tokens = int(image_mask.sum()), sum(len(f.embeddings) for f in features)
        if placeholders != tokens:
            raise TrajectoryError(f"A batch has {placeholders} image placeholders for {tokens} image tokens.")
        if not features:
            return embeddings
        images = torch.cat([f.embeddings for f in features]).to(embeddings.dtype)
        return embeddings.masked_scatter(image_mask[..., None], images)

    def _positions(self, input_ids: torch.Tensor, features: list[FrameFeatures]) -> torch.Tensor | None:
        """Positions int64 [3, B, S] where the family counts them by image grid; None for plain ones.

        Left to itself, Qwen2.5-VL takes plain positions for image tokens without a word.
        """
        if not features or not hasattr(self.model.model, "get_rope_index"):
            return None
        positions, _ = self.model.model.get_rope_index(
            input_ids,
            mm_token_type_ids=(input_ids == self.image_token_id).int(),
            image_grid_thw=torch.cat([f.grid for f in features if f.grid is not None]),
        )
        return positions


def _entropies(log_probs: torch.Tensor, banned_mask: torch.Tensor | None) -> torch.Tensor:
    """Entropy of each distribution, [M], from log-probs [M, V]; banned ids (probability 0) add nothing."""
    if banned_mask is not None:
        # 0 * -inf is NaN, in the value as in the gradient.
        log_probs = log_probs.masked_fill(banned_mask, 0.0)
    return -(log_probs.exp() * log_probs).sum(-1)
