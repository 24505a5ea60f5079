"""A tiny model learns to read digits off the image within the updates that a local run can afford."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.learner.tiny.number_line import STATES, frame, messages, response

UPDATES = 100
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WARM_UP_UPDATES = 30


class Demonstrations:
    """Every state's inputs and response, ready to be put into a batch."""

    def __init__(self, folder: Path, model: Any) -> None:
        processor = AutoProcessor.from_pretrained(folder)
        self.tokenizer = processor.tokenizer
        self.image_token_id = model.config.image_token_id
        text = processor.apply_chat_template(messages(), add_generation_prompt=True)
        self.prompts = [processor(text=[text], images=[frame(*state)], return_tensors="pt") for state in STATES]
        self.responses = [
            torch.tensor([*self.tokenizer(response(*state)).input_ids, self.tokenizer.eos_token_id]) for state in STATES
        ]
        assert len({len(one) for one in self.responses}) == 1

    def batch(self, index: list[int], with_responses: bool) -> dict[str, torch.Tensor]:
        rows = []
        for i in index:
            prompt = self.prompts[i]["input_ids"][0]
            rows.append(torch.cat([prompt, self.responses[i]]) if with_responses else prompt)
        ids = torch.stack(rows)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for name in ("pixel_values", "image_grid_thw", "image_sizes"):
            if name in self.prompts[0]:
                inputs[name] = torch.cat([self.prompts[i][name] for i in index])
        if "mm_token_type_ids" in self.prompts[0]:
            inputs["mm_token_type_ids"] = (ids == self.image_token_id).int()
        return inputs


def train(model: Any, demonstrations: Demonstrations, seed: int) -> None:
    """Cross entropy on the response tokens, AdamW, linear warm-up."""
    generator = random.Random(seed)
    length = len(demonstrations.responses[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: min(1.0, (update + 1) / WARM_UP_UPDATES))
    model.train()
    for _ in range(UPDATES):
        index = generator.choices(range(len(STATES)), k=BATCH_SIZE)
        inputs = demonstrations.batch(index, with_responses=True)
        logits = model(**inputs, logits_to_keep=length + 1).logits[:, :-1]
        targets = inputs["input_ids"][:, -length:]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def recognition(model: Any, demonstrations: Demonstrations) -> float:
    """Fraction of all states in which the greedy response names both digits correctly."""
    model.eval()
    inputs = demonstrations.batch(list(range(len(STATES))), with_responses=False)
    length = inputs["input_ids"].shape[1]
    generated = model.generate(**inputs, max_new_tokens=len(demonstrations.responses[0]))[:, length:]
    texts = demonstrations.tokenizer.batch_decode(generated, skip_special_tokens=True)
    pairs = zip(texts, STATES, strict=True)
    right = [text.split('"thoughts"')[0] == response(*state).split('"thoughts"')[0] for text, state in pairs]
    return sum(right) / len(right)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_learns_to_read_both_digits(folder):
    model = AutoModelForImageTextToText.from_pretrained(folder)
    demonstrations = Demonstrations(folder, model)
    assert recognition(model, demonstrations) < 0.2
    train(model, demonstrations, seed=0)
    assert recognition(model, demonstrations) >= 0.95
