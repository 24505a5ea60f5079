"""The inference server on vLLM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from actors.config import ServerConfig
from actors.policy_server import PolicyServer
from actors.vllm_engine import VLLMEngine


class VLLMServer(PolicyServer):
    """An `InferenceServer` whose engine is vLLM's AsyncLLM, on CPU or GPU as the installed vLLM decides.

    Args: as for `PolicyServer`. vLLM is imported by `start`, not before.
    """

    def __init__(
        self,
        model: str | Path,
        config: ServerConfig,
        server_id: str,
        on_death: Callable[[str], None] | None = None,
        adapter_root: Path | None = None,
    ) -> None:
        super().__init__(
            model,
            config,
            server_id,
            lambda vocabulary: VLLMEngine(str(model), config, vocabulary),
            on_death,
            adapter_root,
        )
