"""`Drafter` as vLLM calls it, in the engine's process (`speculative_config`, method `custom_class`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from actors.drafting import Drafter

if TYPE_CHECKING:
    import numpy as np


def install() -> None:
    """Has vLLM ask the drafter in every step, in the process that calls this.

    vLLM 0.32 asks nobody while any row is so long that a whole draft would not fit behind it, as a draft model needs,
    and has every row check worthless drafts meanwhile. This drafter keeps to the room that each row has.
    """
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    for_models = getattr(GPUModelRunner, "_input_fits_in_drafter", None)
    if for_models is None:
        return

    def fits(self: Any, metadata: Any) -> bool:
        return isinstance(self.drafter, VLLMDrafter) or for_models(self, metadata)

    cast(Any, GPUModelRunner)._input_fits_in_drafter = fits


class VLLMDrafter:
    """Drafts for every request of a step, and learns from what the step has drawn.

    Args:
        vllm_config: vLLM's whole configuration.
    """

    def __init__(self, vllm_config: Any) -> None:
        self._drafter = Drafter(vllm_config.speculative_config.num_speculative_tokens)
        self._most_tokens = vllm_config.model_config.max_model_len
        self.drafted = 0
        """Tokens guessed since the start."""
        self.accepted = 0
        """Those of them that the policy confirmed; a response may have ended before."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: np.ndarray,
        token_ids_cpu: np.ndarray,
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """Drafts of at most `num_speculative_tokens` ids, one per row; empty where the step drew nothing.

        Args:
            sampled_token_ids: What each row has drawn in this step.
            num_tokens_no_spec: [rows]; tokens of each row, the drawn ones included.
            token_ids_cpu: [rows, max_model_len]; prompt and response of each row.
            slot_mappings: Not used.
        """
        drafts = [
            self._row(token_ids_cpu[row], int(num_tokens_no_spec[row]), len(drawn)) if drawn else []
            for row, drawn in enumerate(sampled_token_ids)
        ]
        self.drafted += sum(map(len, drafts))
        self.accepted += sum(len(drawn) - 1 for drawn in sampled_token_ids if drawn)
        return drafts

    def _row(self, token_ids: np.ndarray, end: int, drawn: int) -> list[int]:
        tokens = token_ids[max(0, end - drawn - self._drafter.reach) : end].tolist()
        self._drafter.learn(tokens, drawn)
        return self._drafter.draft(tokens)[: max(0, self._most_tokens - end - 1)]

    def load_model(self, *_: Any, **__: Any) -> None:
        """There is no model to load."""
