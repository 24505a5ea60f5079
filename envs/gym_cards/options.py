"""Validation of `reset(options=...)`, the state injection of the gym_cards environments."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from envs.errors import ResetOptionsError


def check_keys(options: Mapping[str, Any], required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Refuse unknown and missing keys, and what has no keys.

    Raises:
        ResetOptionsError: naming the key, and the nearest known one for a misspelling.
    """
    if not isinstance(options, Mapping):
        raise ResetOptionsError(f"reset options must be a dict with {', '.join(required)}, not {options!r}")
    known = (*required, *optional)
    for key in options:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ResetOptionsError(f"unknown reset option {key!r}; {hint}")
    missing = [key for key in required if key not in options]
    if missing:
        needs = ", ".join(required)
        raise ResetOptionsError(f"reset options lack {', '.join(missing)}; a state needs {needs}")


def integer(options: Mapping[str, Any], key: str, low: int, high: int, default: int | None = None) -> int:
    """The integer `options[key]` within [low, high]; `default` where the key is absent.

    Raises:
        ResetOptionsError: naming key, value and limits.
    """
    value = options.get(key, default)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not low <= value <= high:
        limits = f"an integer from {low} to {high}"
        raise ResetOptionsError(f"reset option {key!r} must be {limits}, not {value!r}")
    return int(value)
