"""Writes a model to a folder that transformers and vLLM open, and merges a trained adapter into one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from peft import PeftModel
from safetensors import safe_open

from learner.backbone import Backbone
from learner.config import ComputeConfig
from learner.model_folder import WEIGHT_SUFFIXES, check_model_folder
from learner.parallel.sharding import gathered_weights
from protocol.errors import ModelFolderError


def check_new_folder(out_dir: Path) -> None:
    """Refuse to write a model where something is.

    Raises:
        FileExistsError: `out_dir` exists and is not an empty folder.
    """
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise FileExistsError(f"{out_dir} exists and is not an empty folder: choose another, or remove it")


def merge_adapter(
    model_path: str | Path, adapter: str | Path, out_dir: str | Path, compute: ComputeConfig | None = None
) -> None:
    """Write the model of a folder with an adapter's change added to its weights.

    Sums are taken in float32 and rounded to the type of `compute.precision` once.

    Args:
        model_path: Hugging Face folder of the base weights; it is not changed.
        adapter: PEFT folder, such as `adapter/` of a checkpoint.
        out_dir: folder to create; it appears only when complete.
        compute: device and precision; the defaults if left out.

    Raises:
        ModelFolderError: The model folder is missing or incomplete, or the result cannot keep its layout.
        FileExistsError: `out_dir` exists and is not an empty folder.
    """
    source, out_dir = check_model_folder(model_path), Path(out_dir)
    check_new_folder(out_dir)
    backbone = Backbone.load(source, compute or ComputeConfig(), trainable=True)
    PeftModel.from_pretrained(backbone.model, str(adapter)).merge_and_unload()  # changes the model in place
    save_model(backbone, source, out_dir)


def save_model(backbone: Backbone, source: Path, out_dir: Path) -> None:
    """Write weights and configuration, and copy tokenizer and processor files of `source` as they are.

    Where several processes hold the model, each has to call this, and rank 0 writes.

    Raises:
        ModelFolderError: The weights would be saved under other names than those of `source`.
    """
    model = backbone.model.to(backbone.storage_dtype)
    gathered = gathered_weights(model)
    if backbone.group.rank != 0:
        return
    staging = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        model.save_pretrained(staging, state_dict=gathered)
        for file in sorted(source.iterdir()):
            is_weight = file.name.endswith(WEIGHT_SUFFIXES)
            if file.is_file() and not is_weight and not (staging / file.name).exists():
                shutil.copy2(file, staging)
        unknown = _keys(staging) - _keys(source)
        if unknown:
            raise ModelFolderError(
                f"Saving {str(source)!r} renamed {len(unknown)} weights, first {min(unknown)!r}; "
                "vLLM could not load the result.",
                "use a transformers version that keeps this family's key names",
            )
        if out_dir.exists():
            out_dir.rmdir()
        staging.rename(out_dir)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _keys(folder: Path) -> set[str]:
    """Names of all tensors in a folder's safetensors files."""
    keys: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as handle:
            keys.update(handle.keys())
    return keys
