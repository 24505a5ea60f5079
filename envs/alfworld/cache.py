"""Where this package keeps files between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$CROUPIER_CACHE/alfworld`, by default below `~/.cache/croupier`; not created here."""
    return Path(os.environ.get("CROUPIER_CACHE") or Path.home() / ".cache" / "croupier") / "alfworld"
