"""What the command line prints, made easy to compare."""

import re


def plain(text: str) -> str:
    """Without colours, frames and line breaks."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", re.sub(r"\x1b\[[\d;]*m", "", text))
