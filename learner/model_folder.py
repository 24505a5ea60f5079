"""Checks a model folder before anything heavy is imported; imports nothing heavy itself."""

from __future__ import annotations

from pathlib import Path

from learner.families.model_types import check_model_type, read_model_config
from protocol.errors import ModelFolderError

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json")
"""File endings that hold weights, or the index over them."""

_CURE = "point model at a Hugging Face folder with config, tokenizer, processor and safetensors weights"


def check_model_folder(path: str | Path) -> Path:
    """Return `path` if it looks like the folder of a vision-language model of a family that the learner knows.

    Raises:
        ModelFolderError: The folder is missing, or lacks configuration, tokenizer, processor or safetensors
            weights, its model is of another family, or its weights are quantized.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ModelFolderError(f"There is no model folder at {str(folder)!r}.", _CURE)
    missing = [names[0] for names in _NEEDED if not any((folder / name).is_file() for name in names)]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise ModelFolderError(f"The model folder {str(folder)!r} lacks {', '.join(missing)}.", _CURE)
    check_model_type(folder)
    _check_unquantized(folder)
    return folder


def _check_unquantized(folder: Path) -> None:
    """Refuse weights in a packed form: supervised stages train them, and vLLM reads few of the forms."""
    packed = read_model_config(folder).get("quantization_config")
    if packed:
        raise ModelFolderError(
            f"The model folder {str(folder)!r} holds weights that are quantized by {packed.get('quant_method')!r}.",
            "use the unquantized model; learner.compute.quantization=nf4 makes it small in the learner",
        )


_NEEDED = (
    ("config.json",),
    ("tokenizer_config.json",),
    ("processor_config.json", "preprocessor_config.json"),
)
"""Files a folder must have; any one name of each tuple will do."""
