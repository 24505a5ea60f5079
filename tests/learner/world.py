"""A small world for the learner's tests: model folders of a few thousand weights, frames, and hand-made steps."""

import io
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from learner.config import ComputeConfig, LearnerConfig, LoraConfig, PPOConfig
from protocol.codec import TrajectoryBatch, encode
from protocol.trajectory import NO_DIGEST, EndReason, Frame, ParseStatus, Step, TokenRole
from tests.learner.tiny.number_line import PROMPT, frame, response

COMPUTE = ComputeConfig(device="cpu", micro_batch_tokens=256)
LORA = LoraConfig(rank=4, alpha=8)
STATES = [(1, 4), (4, 1), (0, 5), (5, 2), (2, 3), (3, 0)]


def config(sections: dict[str, Any] | None = None, **ppo: Any) -> LearnerConfig:
    """Settings for quick tests: keyword arguments go to the PPO part, `sections` beside it."""
    settings: dict[str, Any] = {
        "epochs": 2,
        "minibatch_size": 4,
        "learning_rate": 1e-2,
        "value_hidden_sizes": (16,),
        **ppo,
    }
    return LearnerConfig.model_validate(
        {"lora": LORA, "ppo": PPOConfig.model_validate(settings), "compute": COMPUTE, **(sections or {})}
    )


@cache
def png_of(state: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    frame(*state).save(buffer, "PNG")
    return buffer.getvalue()


class World:
    """One model folder and everything a test needs to make rows for it."""

    open_end = {"terminated": False, "end_reason": EndReason.NONE}
    """Of a step that another follows."""

    def __init__(self, folder: Path, image_tokens: int = 9) -> None:
        self.folder = folder
        self.image_tokens = image_tokens
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        image_token = "<|image_pad|>" if "<|image_pad|>" in self.tokenizer.get_vocab() else "<image>"
        self.image_id = self.tokenizer.convert_tokens_to_ids(image_token)

    @property
    def banned(self) -> tuple[int, ...]:
        """Every special id except end-of-sequence."""
        return tuple(i for i in self.tokenizer.all_special_ids if i != self.tokenizer.eos_token_id)

    def png(self, state: tuple[int, int]) -> bytes:
        return png_of(state)

    def prompt(self, text: str = PROMPT, images: int = 1) -> np.ndarray:
        """Unexpanded prompt ids, int32: one placeholder per image."""
        parts = [{"type": "image"}] * images + [{"type": "text", "text": text}]
        rendered = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        return np.array(self.tokenizer.encode(rendered, add_special_tokens=False), dtype=np.int32)

    def expanded(self, text: str = PROMPT, images: int = 1, image_tokens: int | None = None) -> np.ndarray:
        """The same prompt with as many placeholders per image as a square frame takes, unless told otherwise."""
        ids = self.prompt(text, images)
        count = self.image_tokens if image_tokens is None else image_tokens
        return np.repeat(ids, np.where(ids == self.image_id, count, 1)).astype(np.int32)

    def response(self, state: tuple[int, int]) -> np.ndarray:
        return np.array(self.tokenizer.encode(response(*state), add_special_tokens=False), dtype=np.int32)

    def step(self, index: int = 0, trajectory: str = "t", state: tuple[int, int] = (1, 4), **changes) -> Step:
        """A terminal step of a one-step trajectory, unless `changes` say otherwise."""
        tokens = np.asarray(changes.pop("response_token_ids", self.response(state)), dtype=np.int32)
        roles = np.full(len(tokens), TokenRole.THOUGHT, dtype=np.int8)
        roles[-2:] = TokenRole.ACTION
        made = Step(
            trajectory_id=trajectory,
            run_id="run",
            worker_id="worker",
            env_id="env",
            task="",
            prompt_switches="{}",
            reset_seed=0,
            episode_id=trajectory,
            step=index,
            policy_version=0,
            adapter_digest=NO_DIGEST,
            prompt_token_ids=self.expanded(),
            frame_digests=(Frame.of(self.png(state)).digest,),
            response_token_ids=tokens,
            behavior_log_probs=np.full(len(tokens), -0.5, dtype=np.float32),
            token_roles=roles,
            response_text="",
            action="+",
            parse_status=ParseStatus.OK,
            legal=True,
            reward=1.0,
            terminated=True,
            truncated=False,
            end_reason=EndReason.TERMINATED,
            temperature=1.0,
        )
        return replace(made, **changes)

    def trajectory(self, name: str, states: list[tuple[int, int]], rewards: list[float], **last) -> list[Step]:
        """One step per state; `last` changes the last one (a cut needs `bootstrap_of=state`)."""
        steps = [
            self.step(i, name, state, reward=reward, **self.open_end)
            for i, (state, reward) in enumerate(zip(states, rewards, strict=True))
        ]
        final = {"terminated": True, "end_reason": EndReason.TERMINATED} | last
        if "bootstrap_of" in final:
            final["bootstrap_frame_digests"] = (Frame.of(self.png(final.pop("bootstrap_of"))).digest,)
            final |= {"bootstrap_prompt_token_ids": self.expanded("next"), "terminated": False}
            final["truncated"] = final["end_reason"] is EndReason.TRUNCATED
        steps[-1] = replace(steps[-1], **final)
        return steps

    def batch(self, steps: list[Step]) -> TrajectoryBatch:
        named = {d for s in steps for d in (*s.frame_digests, *s.bootstrap_frame_digests)}
        frames = [Frame.of(self.png((a, b))) for a in range(6) for b in range(6)]
        return encode(steps, [f for f in frames if f.digest in named])

    def mixed_steps(self) -> list[Step]:
        """Three trajectories: terminated, cut, and one truncated row; responses of several lengths."""
        return [
            *self.trajectory("a", STATES[:3], [0.0, -1.0, 1.0]),
            *self.trajectory("b", STATES[2:5], [0.0, 0.5, -1.0], end_reason=EndReason.CUT, bootstrap_of=(3, 0)),
            *self.trajectory("c", [(5, 2)], [2.0], end_reason=EndReason.TRUNCATED, bootstrap_of=(4, 1)),
        ]


class Reference:
    """The plain transformers model: one row at a time, full forward, formulas written out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model: Any = AutoModelForImageTextToText.from_pretrained(world.folder).eval()
        self.processor = AutoProcessor.from_pretrained(world.folder)

    @torch.no_grad()
    def logits(self, prompt: np.ndarray, response: np.ndarray, pngs: list[bytes]) -> torch.Tensor:
        """Float32 [T, V]: logits from which each response token was drawn."""
        ids = torch.tensor(np.concatenate([prompt, response]))[None].long()
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if pngs:
            images = [Image.open(io.BytesIO(png)) for png in pngs]
            inputs |= dict(self.processor.image_processor(images=images, return_tensors="pt"))
            if "image_grid_thw" in inputs:
                inputs["mm_token_type_ids"] = (ids == self.world.image_id).int()
        return self.model(**inputs).logits[0, len(prompt) - 1 : -1].float()

    def log_probs(
        self,
        prompt: np.ndarray,
        response: np.ndarray,
        pngs: list[bytes],
        *,
        temperature: float = 1.0,
        banned: tuple[int, ...] = (),
    ) -> np.ndarray:
        """Float32 [T]."""
        out = []
        for logits, token in zip(self.logits(prompt, response, pngs), response.tolist(), strict=True):
            logits[list(banned)] = -float("inf")
            scaled = logits.double() / (temperature or 1.0)
            out.append(float(scaled[token] - torch.logsumexp(scaled, 0)))
        return np.array(out, dtype=np.float32)
