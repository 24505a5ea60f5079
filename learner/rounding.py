"""A model folder whose weights lie on the 4-bit grid, for servers and for a learner that packs them without loss.

`python -m learner.rounding SOURCE OUT [auto|cpu|cuda]` writes one; see `learner.quantization`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from learner.backbone import Backbone
from learner.config import ComputeConfig
from learner.model_folder import check_model_folder
from learner.model_writer import check_new_folder, save_model
from protocol.errors import ConfigError, CroupierError


def write_rounded_model(model_path: str | Path, out_dir: str | Path, compute: ComputeConfig) -> Path:
    """Write a model as a folder of ordinary bfloat16 weights, rounded as `compute.quantization` rounds them.

    Rounding a rounded model changes nothing.

    Args:
        model_path: Hugging Face folder of the weights; it is not changed.
        out_dir: folder to create; it appears only when complete.
        compute: device and quantization.

    Raises:
        ModelFolderError: The model folder is missing or incomplete.
        FileExistsError: `out_dir` exists and is not an empty folder.
        ConfigError: `compute` asks for no quantization, or the library for it is missing.
    """
    source, out_dir = check_model_folder(model_path), Path(out_dir)
    if compute.quantization == "none":
        raise ConfigError("quantization is 'none': there is no grid to round to.", "set quantization=nf4")
    check_new_folder(out_dir)
    backbone = Backbone.load(source, compute)
    backbone.model = backbone.model.dequantize()
    save_model(backbone, source, out_dir)
    return out_dir


def main(arguments: list[str]) -> int:
    """The command; returns its exit code."""
    if len(arguments) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    source, out_dir, *device = arguments
    settings = {"quantization": "nf4", "precision": "bfloat16", "device": device[0] if device else "auto"}
    try:
        write_rounded_model(source, out_dir, ComputeConfig.model_validate(settings))
    except (CroupierError, FileExistsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
