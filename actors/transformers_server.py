"""The inference server on plain transformers: works wherever torch does, answers the same questions, more slowly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from actors.config import ServerConfig
from actors.policy_server import PolicyServer
from actors.transformers_engine import TransformersEngine


class TransformersServer(PolicyServer):
    """An `InferenceServer` whose engine is transformers and PEFT, in this process.

    Args: as for `PolicyServer`. torch is imported by `start`, not before.
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
            lambda vocabulary: TransformersEngine(str(model), config, vocabulary),
            on_death,
            adapter_root,
        )
