"""Samples from a model folder with an in-process vLLM, in a process of its own: nothing of the engine stays.

`python -m tests.learner.tiny.vllm_probe FOLDER IMAGE RESULT` writes a JSON record per temperature to RESULT.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    # The compiler's helpers take many seconds on a machine that has never run them, eager mode or not.
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
TEMPERATURES = (0.0, 0.7)
MAX_TOKENS = 16


def start(folder: str) -> Any:
    os.environ.update(SETTINGS)
    from vllm import LLM

    return LLM(
        model=folder,
        dtype="float32",
        max_model_len=256,
        block_size=32,
        kv_cache_memory_bytes=128 << 20,
        enforce_eager=True,
        logprobs_mode="processed_logprobs",
        limit_mm_per_prompt={"image": 1, "video": 0},
    )


def sample(engine: Any, prompt: dict, banned: list[int], temperature: float) -> dict:
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=temperature,
        max_tokens=MAX_TOKENS,
        ignore_eos=True,
        logprobs=0,
        logit_bias={i: -100.0 for i in banned},
    )
    (output,) = engine.generate([prompt], params, use_tqdm=False)
    completion = output.outputs[0]
    token_ids = list(completion.token_ids)
    return {
        "temperature": temperature,
        "banned": banned,
        "prompt_token_ids": output.prompt_token_ids,
        "token_ids": token_ids,
        "log_probs": [entry[i].logprob for entry, i in zip(completion.logprobs, token_ids, strict=True)],
    }


def main(folder: str, image: str, result: str) -> None:
    engine = start(folder)
    from PIL import Image
    from transformers import AutoProcessor

    from tests.learner.tiny.number_line import messages

    processor = AutoProcessor.from_pretrained(folder)
    tokenizer = processor.tokenizer
    text = processor.apply_chat_template(messages(), add_generation_prompt=True)
    prompt = {
        "prompt_token_ids": tokenizer(text).input_ids,
        "multi_modal_data": {"image": Image.open(image).convert("RGB")},
    }
    banned = [i for i in tokenizer.all_special_ids if i != tokenizer.eos_token_id]
    records = [sample(engine, prompt, banned, temperature) for temperature in TEMPERATURES]
    Path(result).write_text(json.dumps(records))


if __name__ == "__main__":
    main(*sys.argv[1:])
