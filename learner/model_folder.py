"""Checks a model folder before anything heavy is imported; imports nothing but the protocol's errors."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import ModelFolderError

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json")
"""File endings that hold weights, or the index over them."""

_CURE = "point model at a Hugging Face folder with config, tokenizer, processor and safetensors weights"


def check_model_folder(path: str | Path) -> Path:
    """Return `path` if it looks like the folder of a Hugging Face vision-language model.

    Raises:
        ModelFolderError: The folder is missing, or lacks configuration, tokenizer, processor or safetensors
            weights.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelFolderError(f"There is no model folder at {str(folder)!r}.", _CURE)
    missing = [names[0] for names in _NEEDED if not any((folder / name).is_file() for name in names)]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise ModelFolderError(f"The model folder {str(folder)!r} lacks {', '.join(missing)}.", _CURE)
    return folder


_NEEDED = (
    ("config.json",),
    ("tokenizer_config.json",),
    ("processor_config.json", "preprocessor_config.json"),
)
"""Files a folder must have; any one name of each tuple will do."""
