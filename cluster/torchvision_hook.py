"""Makes `import torchvision` work when a CUDA build of torchvision sits beside a CPU build of torch.

The C++ operators of such a torchvision cannot load, and its import fails because it attaches Python code to
two of them by name. Declaring the two names first is enough: the pure-Python transforms, all that image
processors use, then work. Calling one of the operators still raises.

`cluster.cpu_setup` copies this file into site-packages and starts it from a `.pth` file, so that it runs in
every process of the environment. Standard library only, nothing of ours, no torch at interpreter start.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder

# Every start of an interpreter pays for what this file imports; typing alone would double its price.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any

OPERATORS = ("nms", "qnms")
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

# A torch.library.Library takes its operators away when it is collected.
_libraries: list[Any] = []


def build_of(package: str) -> str:
    """Returns the version in the package's own `version.py`, build included (`2.13.0+cpu`); "" without one.

    The distribution's metadata is no substitute: wheels from PyPI leave the build out of it. Imports nothing.
    """
    import os
    import re

    spec = PathFinder.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        try:
            with open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
                found = re.search(r"""^__version__\s*=\s*['"]([^'"]+)['"]""", file.read(), re.MULTILINE)
        except OSError:
            continue
        if found:
            return found.group(1)
    return ""


def is_needed(torch_build: str, torchvision_build: str) -> bool:
    """True for the one pair that breaks: torch built for CPU, torchvision built for CUDA."""
    return torch_build.endswith("+cpu") and "+cu" in torchvision_build


def declare_operators() -> None:
    """Declares the operator names torchvision expects, unless the pair is sound or the names exist."""
    import torch

    if not is_needed(str(torch.__version__), build_of("torchvision")):
        return
    missing = [name for name in OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(name + SCHEMA)
        _libraries.append(library)


class TorchvisionFinder:
    """Meta-path finder that runs `declare_operators` just before the body of torchvision; idle otherwise."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Returns torchvision's ordinary spec with a prepared loader; None for every other module.

        Libraries ask for the spec only to see whether torchvision is there, so nothing may be imported here.
        """
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run_body = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                declare_operators()
                run_body(module)

            spec.loader.exec_module = exec_module
        return spec


def install() -> None:
    """Puts the finder first on `sys.meta_path`, once per process."""
    if TorchvisionFinder not in sys.meta_path:
        sys.meta_path.insert(0, TorchvisionFinder)
