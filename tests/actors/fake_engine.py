"""An engine without a model: log-probs depend on the adapter's weight bytes, and everything can be made to fail."""

import asyncio
import json
import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.engine import AdapterHandle, Completion, Draw, Prompt
from protocol.adapter import AdapterManifest, AdapterPackage, Canary, adapter_digest
from protocol.errors import AdapterRejected
from tests.actors.toy_folder import IMAGE, png_bytes

BASE_SCORE = -3.0
LORA_NAME = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
LORA_CONFIG = {"peft_type": "LORA", "r": 8, "bias": "none"}
RESPONSE = [8, 9, 5]


class FakeEngine:
    """Scores every token with `BASE_SCORE` plus the one number that an adapter's file holds."""

    def __init__(self) -> None:
        self.loaded: dict[int, float] = {}
        self.batches: list[int] = []
        self.failure: str | None = None
        self.start_error: Exception | None = None
        self.draw_error: Exception | None = None
        self.load_error: Exception | None = None
        self.ignores_adapters = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.in_flight = 0
        self.stops = 0
        self.asleep = False
        self.naps = 0
        self.sleep_error: Exception | None = None
        self.wake_error: Exception | None = None
        self.forgets_in_sleep = False

    version = "fake 1"
    process_ids: tuple[int, ...] = ()

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    async def sleep(self) -> None:
        assert self.in_flight == 0, "answers were under way"
        if self.sleep_error is not None:
            raise self.sleep_error
        self.asleep = True
        self.naps += 1
        self.ignores_adapters = self.ignores_adapters or self.forgets_in_sleep

    async def wake(self) -> None:
        if self.wake_error is not None:
            raise self.wake_error
        self.asleep = False

    async def draw(self, draw: Draw) -> Completion:
        assert not self.asleep, "asked in its sleep"
        self.in_flight += 1
        try:
            await self.gate.wait()
            if self.draw_error is not None:
                raise self.draw_error
            return Completion(
                np.asarray(draw.prompt.token_ids, np.int32),
                np.asarray(RESPONSE, np.int32),
                np.full(3, self._score(draw.adapter), np.float32),
                "stop",
            )
        finally:
            self.in_flight -= 1

    async def draw_batch(self, draws: Sequence[Draw]) -> list[Completion]:
        assert self.in_flight == 0, "a batch must be alone"
        self.batches.append(len(draws))
        return [await self.draw(draw) for draw in draws]

    async def score(
        self, prompt: Prompt, response_token_ids: Sequence[int], adapter: AdapterHandle | None
    ) -> np.ndarray:
        return np.full(len(response_token_ids), self._score(adapter), np.float32)

    async def load_adapter(self, adapter: AdapterHandle) -> None:
        assert not self.asleep, "asked in its sleep"
        if self.load_error is not None:
            raise self.load_error
        config = json.loads((adapter.path / "adapter_config.json").read_bytes())
        if config["r"] == 7:
            raise AdapterRejected("no kernels for rank 7")
        data = (adapter.path / "adapter_model.safetensors").read_bytes()
        self.loaded[adapter.policy_version] = struct.unpack("<f", data[-4:])[0]

    async def unload_adapter(self, adapter: AdapterHandle) -> None:
        assert not self.asleep, "asked in its sleep"
        self.loaded.pop(adapter.policy_version, None)

    async def stop(self) -> None:
        self.stops += 1

    def _score(self, adapter: AdapterHandle | None) -> float:
        assert not self.asleep, "asked in its sleep"
        if adapter is None or self.ignores_adapters:
            return BASE_SCORE
        return BASE_SCORE + self.loaded[adapter.policy_version]


def fake_package(
    version: int, shift: float = 1.0, learner_shift: float | None = None, name: str = LORA_NAME, **config: object
) -> AdapterPackage:
    """An adapter that shifts every score by `shift`; the learner claims `learner_shift`."""
    header = json.dumps({"__metadata__": {}, name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = pa.py_buffer(struct.pack("<Q", len(header)) + header + struct.pack("<f", shift))
    settings = json.dumps(LORA_CONFIG | config).encode()
    claimed = shift if learner_shift is None else learner_shift
    canary = Canary(
        prompt_token_ids=[IMAGE, 8],
        images=(png_bytes(),),
        response_token_ids=RESPONSE,
        log_probs=np.full(3, BASE_SCORE + claimed, np.float32),
        base_log_probs=np.full(3, BASE_SCORE, np.float32),
    )
    manifest = AdapterManifest(version, adapter_digest(weights, settings), 8, 16.0, (), weights.size)
    return AdapterPackage(manifest, weights, settings, (canary,))
