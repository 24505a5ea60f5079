"""Cutting the engine's first text into its parts."""

_TASK = "Your task is to:"
_ROOM = "You are in the middle of a room."


def split_intro(text: str) -> tuple[str, str]:
    """The sentence that lists the receptacles, and the task without its full stop.

    Raises:
        ValueError: the text is no opening of an ALFWorld game.
    """
    opening, mark, task = text.partition(_TASK)
    if not mark:
        raise ValueError(f"the opening text names no task ({_TASK!r} is missing): {text[:200]!r}")
    start = opening.find(_ROOM)
    return " ".join(opening[max(start, 0) :].split()), " ".join(task.split()).rstrip(".")
