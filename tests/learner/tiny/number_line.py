"""Texts and pictures of a stand-in for NumberLine, so that these tests need no environment."""

from PIL import Image, ImageDraw, ImageFont

from learner.tiny.corpus import TinyCorpus

PROMPT = 'Bring the current number to the target number with "+" or "-". Answer with one JSON object.'
STATES = [(current, target) for current in range(6) for target in range(6) if current != target]


def response(current: int, target: int) -> str:
    sign, action = ("<", "+") if current < target else (">", "-")
    return (
        f'{{"current number": "{current}", "target number": "{target}", '
        f'"thoughts": "{current} {sign} {target}", "action": "{action}"}}'
    )


def frame(current: int, target: int) -> Image.Image:
    """Picture, 300 x 300: the target above the current number, each whole in one cell of 100 x 100."""
    picture = Image.new("RGB", (300, 300), "white")
    for number, bottom in ((target, 87), (current, 287)):
        ImageDraw.Draw(picture).text(
            (250, bottom), str(number), "black", ImageFont.load_default(104), "ms", stroke_width=3
        )
    return picture


def corpus() -> TinyCorpus:
    return TinyCorpus(
        prompts=(PROMPT,) * 100,
        responses=tuple(response(*state) for state in STATES) * 4,
        isolated=("+", "-", "stand", "hit"),
    )


def messages(text: str = PROMPT) -> list[dict]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
