"""vLLM and transformers read the same folder and agree on every token."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.learner.tiny.number_line import frame, messages
from tests.learner.tiny.vllm_probe import MAX_TOKENS, TEMPERATURES

DEADLINE_S = 240
ROOT = Path(__file__).parents[3]


def sample(folder: Path, image: Path, result: Path) -> list[dict]:
    """Run the probe to its end; no process of its group outlives this call."""
    command = [sys.executable, "-m", "tests.learner.tiny.vllm_probe", str(folder), str(image), str(result)]
    probe = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = probe.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"vLLM did not sample {MAX_TOKENS} tokens within {DEADLINE_S} s")
    finally:
        try:
            os.killpg(probe.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        probe.wait()
    assert probe.returncode == 0, output[-4000:]
    return json.loads(result.read_text())


def reference(folder: Path, record: dict, picture: Image.Image) -> torch.Tensor:
    """transformers' log-probs of every id at every sampled position, float32 [T, V]."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    text = processor.apply_chat_template(messages(), add_generation_prompt=True)
    inputs = processor(text=[text], images=[picture], return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == record["prompt_token_ids"]

    ids = torch.tensor([record["prompt_token_ids"] + record["token_ids"]])
    inputs["input_ids"], inputs["attention_mask"] = ids, torch.ones_like(ids)
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    with torch.no_grad():
        logits = model(**inputs).logits[0, len(record["prompt_token_ids"]) - 1 : -1].float()
    logits[:, record["banned"]] = -torch.inf
    return torch.log_softmax(logits / (record["temperature"] or 1.0), dim=-1)


@pytest.mark.slow
@pytest.mark.timeout(DEADLINE_S + 60)
@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
def test_vllm_and_transformers_agree(family, folder_of, tmp_path):
    """For every family the learner itself is compared, in tests/learner/families."""
    folder = folder_of(family)
    pytest.importorskip("vllm")
    picture = frame(1, 4)
    picture.save(tmp_path / "frame.png")
    records = sample(folder, tmp_path / "frame.png", tmp_path / "records.json")
    assert [record["temperature"] for record in records] == list(TEMPERATURES)
    for record in records:
        wanted = reference(folder, record, picture)
        token_ids = torch.tensor(record["token_ids"])
        assert len(token_ids) == MAX_TOKENS
        difference = wanted.gather(1, token_ids[:, None])[:, 0] - torch.tensor(record["log_probs"])
        assert difference.abs().max() < 1e-4
        if record["temperature"] == 0.0:
            assert torch.equal(wanted.argmax(dim=-1), token_ids)
