"""A mistake in a configuration told in words: which key, what is wrong with it, and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

Location = Sequence[int | str]
"""Where pydantic found the mistake: keys from the root on."""


def explain(error: Any, root: type[BaseModel]) -> str:
    """One of a ValidationError's `errors()` in words: the key, and the value or the nearest known key.

    Args:
        error: Of the validation of a `root`.
        root: The model that was validated.
    """
    location = error["loc"]
    where = _path(location, root)
    if error["type"] == "union_tag_not_found":
        kinds = ", ".join(_by_kind(_candidates(_annotation(location, root))))
        return f"{where}: its kind is missing; one of {kinds}"
    if error["type"] != "extra_forbidden":
        shown = f" (got {error['input']!r})" if not isinstance(error.get("input"), dict) else ""
        return f"{where or 'configuration'}: {error['msg'].removeprefix('Value error, ')}{shown}"
    known = list(_model_at(location[:-1], root).model_fields)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if not near:
        return f"unknown key {where!r}; known here: {', '.join(known)}"
    return f"unknown key {where!r}, did you mean {'.'.join([*where.split('.')[:-1], near[0]])!r}?"


def _path(location: Location, root: type[BaseModel]) -> str:
    """The location as a user writes it: without the kind that pydantic puts behind the name of a stage."""
    parts: list[str] = []
    for end, part in enumerate(location):
        kinds = _by_kind(_candidates(_annotation(location[:end], root))) if end > 1 else {}
        if part not in kinds:
            parts.append(str(part))
    return ".".join(parts)


def _model_at(location: Location, root: type[BaseModel]) -> type[BaseModel]:
    """The model whose fields are the known keys at `location`."""
    return _candidates(_annotation(location, root))[0]


def _annotation(location: Location, root: type[BaseModel]) -> Any:
    """Type of what sits at `location`; None beyond what models describe."""
    found: Any = root
    for part in location:
        candidates = _candidates(found)
        if get_origin(found) is dict:  # such as a component of a mixture: `part` is the user's name, no key
            found = get_args(found)[1]
        elif part in _by_kind(candidates):
            found = _by_kind(candidates)[str(part)]
        elif candidates and part in candidates[0].model_fields:
            found = candidates[0].model_fields[str(part)].annotation
        else:
            return None
    return found


def _candidates(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value of this type may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is dict:
        return []
    return [model for argument in get_args(annotation) for model in _candidates(argument)]


def _by_kind(candidates: Sequence[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """Models of a union by their `kind`; empty where there is nothing to tell apart."""
    if len(candidates) < 2 or not all("kind" in model.model_fields for model in candidates):
        return {}
    return {kind: model for model in candidates for kind in get_args(model.model_fields["kind"].annotation)}
