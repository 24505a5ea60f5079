"""What a prompt tells and what a response must hold: switches that change the language of a task, not its rules."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib import import_module
from typing import Any, cast

import numpy as np

from envs.errors import EnvSetupError

Mark = Callable[[np.ndarray, dict[str, Any]], np.ndarray]
"""Draws on a picture: (uint8 [H, W, 3], its own copy; info) to uint8 [H', W', 3]."""

EVERY_TASK = frozenset({"marks", "memory", "memory_frames"})
"""Switches that work for any task, a user's own included."""


@dataclass(frozen=True)
class PromptSwitches:
    """Variants of a task's language; the defaults are the full prompt of one state."""

    rules: bool = True
    """The prompt tells the rules and the form of the answer; without them it tells the state alone, for a model that is
    fine-tuned on the task anyway. Shorter prompts cost less time."""
    thoughts: bool = True
    """The response reasons in words before it acts. With `key_state` off as well it is the action alone."""
    key_state: bool = True
    """The response first states what the picture shows, such as the cards, in fields of their own."""
    formula: bool = True
    """The prompt tells the formula so far, as the original did; else it must be read off the picture."""
    text_only: bool = False
    """No picture: the prompt tells the state in words."""
    marks: str | None = None
    """A function `module:name` that draws on every picture, see `Mark`; `envs.marks:grid` is one."""
    memory: int | None = None
    """How many past (observation, action) pairs of the episode the prompt tells; None: the task's own default."""
    memory_frames: bool = False
    """The pictures of the remembered states are shown too, before the present one; needs `memory`."""

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 0:
            raise EnvSetupError(f"prompt.memory is {self.memory}; it counts remembered steps, so give 0 or more")
        if self.memory_frames and self.text_only:
            raise EnvSetupError("prompt.memory_frames shows pictures and prompt.text_only none: turn one of them off")
        if self.memory_frames and not self.memory:
            raise EnvSetupError("prompt.memory_frames=true shows remembered pictures: set prompt.memory to 1 or more")
        if self.text_only and not self.formula:
            raise EnvSetupError("prompt.formula=false with prompt.text_only=true leaves nothing that tells the state")

    def check(self, task: str, honoured: Collection[str], default_memory: int) -> "PromptSwitches":
        """These switches with the memory filled in, for a task that honours the named ones beside EVERY_TASK.

        Raises:
            EnvSetupError: a switch is set that the task does not honour, or `marks` cannot be loaded.
        """
        usual = PromptSwitches()
        known = EVERY_TASK | set(honoured)
        for field in fields(self):
            value = getattr(self, field.name)
            if value != getattr(usual, field.name) and field.name not in known:
                raise EnvSetupError(
                    f"prompt.{field.name}={value!r} means nothing to {task}, which honours {', '.join(sorted(known))}"
                )
        if self.marks is not None:
            load_mark(self.marks)
        return self if self.memory is not None else replace(self, memory=default_memory)

    def to_json(self) -> str:
        """All switches as a JSON object, for the provenance of rows."""
        return _as_json(self)


@cache
def _as_json(switches: PromptSwitches) -> str:
    return json.dumps(asdict(switches))


def draw_marks(path: str, image: np.ndarray, info: Mapping[str, Any]) -> np.ndarray:
    """The picture with the marks of the function that `path` names, uint8 [H', W', 3]; `image` stays as it is.

    Raises:
        EnvSetupError: there is no such function, or it returns no picture.
    """
    marked = load_mark(path)(image.copy(), dict(info))
    if not isinstance(marked, np.ndarray) or marked.dtype != np.uint8 or marked.ndim != 3 or marked.shape[2] != 3:
        found = f"{marked.dtype} {list(marked.shape)}" if isinstance(marked, np.ndarray) else type(marked).__name__
        raise EnvSetupError(f"prompt.marks={path!r} returned {found}; return the picture, uint8 [H, W, 3]")
    return marked


@cache
def load_mark(path: str) -> Mark:
    """The function that `module:name` names.

    Raises:
        EnvSetupError: there is no such module or function.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise EnvSetupError(f"prompt.marks={path!r} cannot be loaded ({error}); give module:function") from error
    if callable(found):
        return cast(Mark, found)
    raise EnvSetupError(f"prompt.marks={path!r} is no function; it takes a picture and info, and returns a picture")
