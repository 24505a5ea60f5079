"""The states of a text model that are worth reading: those at a prompt's end and at every response token but the last.

Two readers of one form. `PlainReader` passes padded rows through the model as it is; `PackedReader` passes packed rows
(see `learner.packing`) through the same layers with another attention, which is the same function for less work.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from learner.batching import TokenBatch
from learner.devices import moved
from learner.families.features import FrameFeatures
from learner.families.text_inputs import grid_positions, layer_features
from learner.packed_attention import NAME, read_at_last
from learner.packing import Packing, pack
from learner.vision import VisionEncoder
from protocol.errors import TrajectoryError

_PACKED_MODELS = {"Qwen2VLTextModel", "Qwen2_5_VLTextModel", "Qwen3VLTextModel", "LlamaModel", "MistralModel"}
"""Text models that packed rows were compared with plain ones on."""

_KEPT_POSITIONS = 4096


class StateReader(Protocol):
    """Reads the states of rows."""

    def read(self, batch: TokenBatch) -> torch.Tensor:
        """States [B, max(T, 1), H] after the final norm: entry t is the one that predicts response token t.

        Entry 0 stands at the prompt's end; entries at padding mean nothing.

        Raises:
            TrajectoryError: A frame is missing or unreadable, or placeholders and image tokens differ in number.
        """
        ...


def can_be_packed(model: Any) -> bool:
    """Whether the text part of a Hugging Face model is one whose rows can be packed."""
    text = model.model.language_model
    windows = (getattr(layer.self_attn, "sliding_window", None) for layer in text.layers)
    return type(text).__name__ in _PACKED_MODELS and not any(windows)


class PlainReader:
    """Passes padded rows.

    Args:
        model: Hugging Face model.
        vision: features of frames.
        image_token_id: the placeholder.
    """

    def __init__(self, model: Any, vision: VisionEncoder, image_token_id: int) -> None:
        self._model, self._vision, self._image_token_id = model, vision, image_token_id

    def read(self, batch: TokenBatch) -> torch.Tensor:
        """See `StateReader`."""
        digests = [digest for row in batch.digests for digest in row]
        features = self._vision.features(digests, batch.frames) if digests else []
        image_mask = batch.input_ids == self._image_token_id
        embeddings = embed(self._model, batch.input_ids, image_mask, features)
        # No attention mask: padding sits on the right, where causal attention already hides it.
        states = self._model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=grid_positions(self._model, batch.input_ids, image_mask, features),
            use_cache=False,
            **layer_features(image_mask, features),
        ).last_hidden_state
        steps = torch.arange(max(batch.response_mask.shape[1], 1), device=states.device)
        columns = (batch.prompt_lengths[:, None] - 1 + steps).clamp(max=states.shape[1] - 1)
        return states[torch.arange(len(states), device=states.device)[:, None], columns]


class PackedReader:
    """Passes packed rows.

    Args:
        model: Hugging Face model for which `can_be_packed`; its text part gets another attention, which without a
            packing is the usual one.
        vision: features of frames.
        image_token_id: the placeholder.
        pad_id: of the filling; not the placeholder.
        share_prompts: whether equal prompts of a batch are computed once.
    """

    def __init__(
        self, model: Any, vision: VisionEncoder, image_token_id: int, pad_id: int, *, share_prompts: bool
    ) -> None:
        self._model, self._vision, self._image_token_id = model, vision, image_token_id
        self._pad_id, self._share_prompts = pad_id, share_prompts
        self._positions: OrderedDict[tuple[bytes, bytes], np.ndarray] = OrderedDict()
        text = model.model.language_model
        text.config._attn_implementation = NAME
        # Vision features that enter the last layer's output are meant for all of its tokens.
        entered = getattr(model.config.vision_config, "deepstack_visual_indexes", ())
        self._reads_at_last = len(entered) < len(text.layers)
        if self._reads_at_last:
            read_at_last(text.layers[-1])

    def read(self, batch: TokenBatch) -> torch.Tensor:
        """See `StateReader`."""
        packing = pack(batch.prompts, batch.responses, batch.digests, self._pad_id, share_prompts=self._share_prompts)
        shown = [batch.digests[i] for i in packing.distinct]
        digests = [digest for row in shown for digest in row]
        features = self._vision.features(digests, batch.frames) if digests else []
        packing, device = packing.to(batch.input_ids.device), batch.input_ids.device
        ids = packing.token_ids[None]
        image_mask = ids == self._image_token_id
        embeddings = embed(self._model, ids, image_mask, features)
        positions = self._packed_positions(batch, packing, features)
        states = self._model.model.language_model(
            inputs_embeds=embeddings,
            position_ids=moved(positions, device),
            # Four dimensions: taken for a finished mask, and left to our attention to ignore.
            attention_mask=torch.zeros(1, 1, 1, 1, device=device),
            use_cache=False,
            packing=packing,
            **layer_features(image_mask, features),
        ).last_hidden_state[0]
        steps = torch.arange(max(batch.response_mask.shape[1], 1), device=device)
        places = (packing.first_reads[:, None] + steps).clamp(max=len(packing.reads) - 1)
        return states[places if self._reads_at_last else packing.reads[places]]

    def _packed_positions(self, batch: TokenBatch, packing: Packing, features: Sequence[FrameFeatures]) -> torch.Tensor:
        """Positions of the packed tokens, int64 [3, 1, N], or [1, N] where the family counts plainly."""
        prompts, taken = [], 0
        for row in packing.distinct:
            count = len(batch.digests[row])
            prompts.append(self._prompt_positions(batch, int(row), features[taken : taken + count]))
            taken += count
        dims = max(len(positions) for positions in prompts)
        joined = np.zeros((dims, len(packing.token_ids)), dtype=np.int64)
        for start, positions in zip(packing.prompt_starts.tolist(), prompts, strict=True):
            joined[:, start : start + positions.shape[1]] = positions
        steps = 1 + np.arange(int(packing.fed_lengths.max()))
        ends = np.array([positions.max() for positions in prompts])[packing.prompt_of]
        for start, length, end in zip(packing.fed_starts.tolist(), packing.fed_lengths.tolist(), ends, strict=True):
            joined[:, start : start + length] = steps[:length] + end
        made = torch.from_numpy(joined)
        return made[:, None] if dims > 1 else made

    def _prompt_positions(self, batch: TokenBatch, row: int, features: Sequence[FrameFeatures]) -> np.ndarray:
        """Positions of one prompt, int64 [3, P] or [1, P]."""
        prompt = batch.prompts[row]
        grids = [f.grid for f in features if f.grid is not None]
        key = (prompt.tobytes(), b"".join(grid.numpy().tobytes() for grid in grids))
        if key not in self._positions:
            ids = torch.from_numpy(prompt.astype("int64"))[None]
            found = grid_positions(self._model, ids, ids == self._image_token_id, features)
            self._positions[key] = np.arange(ids.shape[1])[None] if found is None else found[:, 0].numpy()
            if len(self._positions) > _KEPT_POSITIONS:
                self._positions.popitem(last=False)
        self._positions.move_to_end(key)
        return self._positions[key]


def embed(
    model: Any, input_ids: torch.Tensor, image_mask: torch.Tensor, features: Sequence[FrameFeatures]
) -> torch.Tensor:
    """Token embeddings [B, S, H], with image features in place of the placeholders.

    Args:
        model: Hugging Face model.
        input_ids: int64 [B, S].
        image_mask: bool [B, S], True = placeholder of an image token.
        features: of every image, in the order of their placeholders.

    Raises:
        TrajectoryError: Placeholders and image tokens differ in number.
    """
    embeddings = model.get_input_embeddings()(input_ids)
    placeholders, tokens = int(image_mask.sum()), sum(len(f.embeddings) for f in features)
    if placeholders != tokens:
        raise TrajectoryError(f"A batch has {placeholders} image placeholders for {tokens} image tokens.")
    if not features:
        return embeddings
    images = torch.cat([f.embeddings for f in features]).to(embeddings.dtype)
    return embeddings.masked_scatter(image_mask[..., None], images)
