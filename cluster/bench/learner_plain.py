"""The contender of the `learner` benchmark: the same losses in a plain loop over transformers and peft.

Written as a user of these libraries writes it today: real minibatches, images processed once per row before the first
epoch, prompts padded on the left so that logits are asked for at response positions only, whole models called with
pixel values. It takes equations and settings from ours, and none of its way through the model.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText, AutoProcessor

from cluster.bench.learner_cases import COMPUTE, SEED, World, disturb
from learner.advantages import generalized_advantages, normalize
from learner.config import ComputeConfig, LearnerConfig, SFTConfig
from learner.rows import Rows
from learner.schedules import learning_rate_factor
from learner.scopes import lora_targets, targets_regex
from learner.sft import batches_of
from learner.value_head import ValueHead
from protocol.trajectory import TokenRole

_IMAGES_PER_CALL = 64


class Examples:
    """Rows as tensors, and batches of them as a model takes them."""

    def __init__(self, processor: Any, rows: Rows, device: torch.device) -> None:
        self._device = device
        self.prompts = [torch.tensor(prompt, dtype=torch.int64) for prompt in rows.prompts]
        self.responses = [torch.tensor(response, dtype=torch.int64) for response in rows.responses]
        self.image_token_id: int = processor.image_token_id
        self.pad_id: int = processor.tokenizer.pad_token_id
        self._digests = list(rows.digests)
        self._processor, self._frames = processor, rows.frames
        boot = [i for i, prompt in enumerate(rows.bootstrap_prompts) if prompt is not None]
        for i in boot:
            self.prompts.append(torch.tensor(rows.bootstrap_prompts[i], dtype=torch.int64))
            self.responses.append(torch.empty(0, dtype=torch.int64))
            self._digests.append(rows.bootstrap_digests[i])
        self.boot = boot
        self._pixels = self._process()

    def inputs(self, index: np.ndarray, *, responses: bool = True) -> dict[str, torch.Tensor]:
        """Arguments of the model: prompts padded on the left [B, P], then responses padded on the right [B, T]."""
        prompts = pad_sequence(
            [self.prompts[i] for i in index], batch_first=True, padding_value=-1, padding_side="left"
        )
        parts = [prompts]
        if responses:
            parts.append(pad_sequence([self.responses[i] for i in index], batch_first=True, padding_value=-1))
        ids = torch.cat(parts, dim=1)
        attention_mask = ids >= 0
        ids = ids.masked_fill(~attention_mask, self.pad_id)
        made = {
            "input_ids": ids,
            "attention_mask": attention_mask.long(),
            "mm_token_type_ids": (ids == self.image_token_id).int(),
            "pixel_values": torch.cat([self._pixels[i]["pixel_values"] for i in index]),
            "image_grid_thw": torch.cat([self._pixels[i]["image_grid_thw"] for i in index]),
        }
        return {name: tensor.to(self._device) for name, tensor in made.items()}

    def labels(self, index: np.ndarray) -> torch.Tensor:
        """Response ids of the rows, int64 [B, T]; -100 at padding."""
        labels = pad_sequence([self.responses[i] for i in index], batch_first=True, padding_value=-100)
        return labels.to(self._device)

    def _process(self) -> list[dict[str, torch.Tensor]]:
        made = []
        for start in range(0, len(self._digests), _IMAGES_PER_CALL):
            some = self._digests[start : start + _IMAGES_PER_CALL]
            images = [Image.open(io.BytesIO(self._frames[digest])).convert("RGB") for (digest,) in some]
            out = self._processor.image_processor(images=images, return_tensors="pt")
            patches = out["image_grid_thw"].prod(-1).tolist()
            pairs = zip(out["pixel_values"].split(patches), out["image_grid_thw"], strict=True)
            made += [{"pixel_values": pixels, "image_grid_thw": grid[None]} for pixels, grid in pairs]
        return made


class PlainPPO:
    """PPO with a critic on a peft model."""

    def __init__(self, world: World, settings: LearnerConfig) -> None:
        self._device, self._bfloat16 = _prepare(settings.compute)
        dtype = torch.bfloat16 if self._bfloat16 else torch.float32
        model: Any = AutoModelForImageTextToText.from_pretrained(world.folder, dtype=dtype)
        model.eval().to(self._device)
        self.processor = AutoProcessor.from_pretrained(world.folder)
        self._ppo, self._budget = settings.ppo, settings.compute.micro_batch_tokens
        lora = LoraConfig(
            r=settings.lora.rank,
            lora_alpha=settings.lora.alpha,
            target_modules=targets_regex(lora_targets(model, "language")),
        )
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            self.model: PeftModel = get_peft_model(model, lora)  # type: ignore[assignment]
            self.critic = ValueHead(model.config.get_text_config().hidden_size, settings.ppo.value_hidden_sizes)
        self.critic.to(self._device)
        self.model.eval()
        self.adapter = {n: p for n, p in self.model.named_parameters() if ".lora_" in n}
        disturb(self.adapter)
        self._banned = torch.zeros(model.config.get_text_config().vocab_size, dtype=torch.bool, device=self._device)
        self._banned[list(world.banned)] = True
        factor = learning_rate_factor("constant", 0, warmup=self._ppo.warmup_updates, total=1, final=1.0)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.adapter.values()), "lr": self._ppo.learning_rate * factor},
                {"params": list(self.critic.parameters()), "lr": self._ppo.value_learning_rate * factor},
            ],
            weight_decay=0.0,
            fused=settings.compute.fused_optimizer or None,
        )

    def update(self, rows: Rows, generator: torch.Generator) -> None:
        """One update; draws from the generator what ours draws, so that the two see the same minibatches."""
        examples = Examples(self.processor, rows, self._device)
        advantages, returns = self._targets(rows, examples)
        torch.randint(2**62, (), generator=generator)  # ours seeds the dropout
        parts = math.ceil(len(rows) / self._ppo.minibatch_size)
        for _ in range(self._ppo.epochs):
            for minibatch in torch.randperm(len(rows), generator=generator).tensor_split(parts):
                for index in self._micro(minibatch.numpy(), rows.lengths):
                    losses = self._losses(rows, examples, index, advantages, returns)
                    (losses.sum() / len(minibatch)).backward()
                for parameters in (self.adapter.values(), self.critic.parameters()):
                    torch.nn.utils.clip_grad_norm_(list(parameters), self._ppo.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()

    def _micro(self, index: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
        rows = max(1, self._budget // int(lengths.max()))
        yield from (index[start : start + rows] for start in range(0, len(index), rows))

    @torch.no_grad()
    def _targets(self, rows: Rows, examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = np.array([len(prompt) for prompt in examples.prompts])
        values = []
        for index in self._micro(np.arange(len(lengths)), lengths):
            inputs = examples.inputs(index, responses=False)
            states = self._call(inputs, logits_to_keep=1)[1]
            values.append(self.critic(states[:, -1]).cpu())
        old = torch.cat(values)
        bootstrap = torch.zeros(len(rows.last_rows))
        bootstrap[examples.boot] = old[len(rows) :]
        advantages, returns = generalized_advantages(
            torch.tensor(rows.rewards) * self._ppo.reward_scale,
            old[: len(rows)],
            rows.last_rows.tolist(),
            bootstrap,
            gamma=self._ppo.gamma,
            gae_lambda=self._ppo.gae_lambda,
        )
        return normalize(advantages), returns

    def _losses(
        self, rows: Rows, examples: Examples, index: np.ndarray, advantages: torch.Tensor, returns: torch.Tensor
    ) -> torch.Tensor:
        ppo, labels = self._ppo, examples.labels(index)
        tokens = labels.shape[1]
        scores, hidden = self._call(examples.inputs(index), logits_to_keep=tokens + 1)
        logits = scores[:, :-1].float().masked_fill(self._banned, -torch.inf)
        temperatures = torch.from_numpy(rows.temperatures[index]).to(self._device)[:, None, None]
        log_probs = (logits / temperatures).log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        log_probs = log_probs.masked_fill(labels < 0, 0.0)
        states = hidden[:, -tokens - 1]
        values = self.critic(states if ppo.value_gradient_to_backbone else states.detach())
        roles = self._padded([rows.roles[i] for i in index], -1)
        weights = ppo.thought_weight * (roles == TokenRole.THOUGHT).float() + (roles == TokenRole.ACTION).float()
        old = self._padded([rows.behavior_log_probs[i] for i in index], 0)
        ratio = ((log_probs - old) * weights).sum(-1).exp()
        own, wanted = (values_of[index].to(self._device) for values_of in (advantages, returns))
        clipped = ratio.clamp(1 - ppo.clip, 1 + ppo.clip)
        surrogate = torch.minimum(ratio * own, clipped * own)
        if ppo.max_ratio is not None:
            surrogate = torch.where(ratio > ppo.max_ratio, clipped * own, surrogate)
        return -surrogate + ppo.value_coefficient * 0.5 * (values - wanted).square()

    def _call(self, inputs: dict[str, torch.Tensor], logits_to_keep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the last positions, and last-layer states of all."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            out = self.model(**inputs, logits_to_keep=logits_to_keep, output_hidden_states=True, use_cache=False)
        return out.logits, out.hidden_states[-1]

    def _padded(self, arrays: Sequence[np.ndarray], padding: int) -> torch.Tensor:
        tensors = [torch.tensor(array) for array in arrays]
        return pad_sequence(tensors, batch_first=True, padding_value=padding).to(self._device)


def plain_sft(world: World, config: SFTConfig) -> Iterator[float]:
    """Train the whole model; one loss per step. The first step comes after the images have been processed."""
    device, bfloat16 = _prepare(COMPUTE)
    model: Any = AutoModelForImageTextToText.from_pretrained(world.folder)
    model.eval().to(device)
    examples = Examples(AutoProcessor.from_pretrained(world.folder), world.rows, device)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=COMPUTE.fused_optimizer or None,
    )
    places = batches_of(len(world.rows), config.batch_size, SEED)
    for step in range(config.steps):
        factor = learning_rate_factor(config.schedule, step, warmup=config.warmup_steps, total=config.steps, final=0.0)
        optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        index = next(places)
        inputs, answers = examples.inputs(index), examples.labels(index)
        prompts = answers.new_full((len(index), inputs["input_ids"].shape[1] - answers.shape[1]), -100)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = model(**inputs, labels=torch.cat([prompts, answers], dim=1), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def _prepare(compute: ComputeConfig) -> tuple[torch.device, bool]:
    """Device, and whether to compute in bfloat16."""
    torch.set_num_threads(compute.threads or 1)
    return torch.device(compute.device), compute.precision == "bfloat16"
