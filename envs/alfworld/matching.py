"""From free text to one admissible command: a pure function of the text and the list."""

import re
from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase

# Lowering other letters can split them into a letter and a mark, which then looks like the end of a word.
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def match_command(text: str, admissible: Sequence[str]) -> str | None:
    """The admissible command that `text` is, or else the one that it contains.

    Letter case and the width of white space do not matter. Text that equals a command is that command. Otherwise
    commands count where they stand as whole words ("cabinet 1" never stands in "cabinet 10"), longer ones hide
    those within them, and exactly one must be left. RL4VLM (arXiv 2405.10292) took the first of the list that
    occurs as a substring, which made two-digit receptacles unreachable.

    Returns:
        The command as it is written in `admissible`; None if the text names none, or several.
    """
    left = _plain(text)
    commands = {_plain(command): command for command in admissible}
    if left in commands:
        return commands[left]
    found = []
    for plain in sorted(filter(None, commands), key=len, reverse=True):
        left, count = re.subn(rf"(?<!\w){re.escape(plain)}(?!\w)", "\0", left)
        if count:
            found.append(commands[plain])
    return found[0] if len(found) == 1 else None


def _plain(text: str) -> str:
    return " ".join(text.translate(_LOWER).split())
