"""From free text to the names it holds: a pure function of the text and the list of names."""

import re
from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase

# Lowering other letters can split them into a letter and a mark, which then looks like the end of a word.
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def names_in(text: str, names: Sequence[str]) -> list[str]:
    """The names that `text` holds, as they are written in `names`.

    Letter case and the width of white space do not matter. Text that equals a name is that name. Otherwise names
    count where they stand as whole words ("cabinet 1" never stands in "cabinet 10", nor "1" in "11"; a sign such as
    "+" needs no blank around it), and longer ones hide those within them. Takes time in proportion to the length of
    the text.

    Deviation: RL4VLM (arXiv 2405.10292) looked for substrings, so that "understand" was "stand", and for commands
    took the first of the list, which made two-digit receptacles unreachable.
    """
    left = _plain(text)
    plain_names = {plain: name for name in names if (plain := _plain(name))}
    if left in plain_names:
        return [plain_names[left]]
    found = []
    for plain in sorted(plain_names, key=len, reverse=True):
        if plain in left:  # much cheaper than the pattern, and usually the end of it
            left, count = re.subn(_as_words(plain), "\0", left)
            if count:
                found.append(plain_names[plain])
    return found


def only_name_in(text: str, names: Sequence[str]) -> str | None:
    """The one name that `text` holds; None if it holds none, or several."""
    found = names_in(text, names)
    return found[0] if len(found) == 1 else None


def _as_words(plain: str) -> str:
    before = r"(?<!\w)" if re.match(r"\w", plain) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", plain) else ""
    return before + re.escape(plain) + after


def _plain(text: str) -> str:
    return " ".join(text.translate(_LOWER).split())
