"""A slot with a model that says what the test tells it to."""

from typing import Any

import gymnasium
import numpy as np

from actors.builder import SlotIdentity
from actors.frames import FrameEncoder
from actors.prompting import PromptEncoder
from actors.rewards import UNSHAPED, RewardWeights
from actors.sampler import Sample, SamplingParams
from actors.slot import EnvSlot
from actors.vocabulary import Vocabulary
from envs import TaskAdapter
from protocol.codec import encode
from protocol.trajectory import Step
from protocol.validation import AdmissionRules, validate
from tests.actors.counting import CountingEnv, CountingTask, told_state

PARAMS = SamplingParams(temperature=1.0, max_tokens=64)
DIGEST = bytes(range(32))


class Play:
    """By default a slot of the counting environment; any other with its adapter."""

    def __init__(
        self,
        folder: Any,
        env: gymnasium.Env | None = None,
        task: TaskAdapter | None = None,
        rewards: RewardWeights = UNSHAPED,
        **identity: Any,
    ):
        names = {"run_id": "run", "worker_id": "w", "slot": 0, "seed": 0} | identity
        self.vocabulary = Vocabulary.from_folder(folder)
        self.encoder = PromptEncoder(folder)
        self.env: Any = env or CountingEnv()
        self.slot = EnvSlot(
            self.env, task or CountingTask(), self.encoder, FrameEncoder(), SlotIdentity(**names), rewards
        )
        self.slot.reset()

    def sample(self, text: str, image_tokens: int = 4) -> Sample:
        prompt = np.array(self.slot.state.prompt_token_ids, dtype=np.int32)
        ids = np.array(self.vocabulary.encode(text) or [self.vocabulary.eos_token_id], dtype=np.int32)
        return Sample(
            prompt_token_ids=np.repeat(prompt, np.where(prompt == self.encoder.image_token_id, image_tokens, 1)),
            token_ids=ids,
            log_probs=-np.arange(len(ids), dtype=np.float32),
            text=text,
            policy_version=3,
            adapter_digest=DIGEST,
            finish_reason="stop",
            sample_s=0.0,
        )

    def say(self, text: str) -> Any:
        return self.slot.apply(self.sample(text), temperature=0.5, sample_s=0.25)

    def rows(self) -> list[Step]:
        """The closed rows, checked as the learner checks them."""
        rows, frames = self.slot.builder.take()
        rules = AdmissionRules(
            len(self.vocabulary.tokenizer.get_vocab()), self.encoder.image_token_id or -1, {3: DIGEST}
        )
        assert validate(encode(rows, frames), rules) == []
        return rows

    def told(self, token_ids: Any) -> tuple[int, int]:
        return told_state(self.vocabulary, token_ids)
