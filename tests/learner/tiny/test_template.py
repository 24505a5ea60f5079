import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from learner.tiny.template import chat_template

IMAGE = {"type": "image"}


def text(value: str) -> dict:
    return {"type": "text", "text": value}


def render(messages: list[dict], prompt: bool) -> str:
    template = ImmutableSandboxedEnvironment().from_string(chat_template("<i>", "</s>"))
    return template.render(messages=messages, add_generation_prompt=prompt)


@pytest.mark.parametrize(
    ("messages", "prompt", "wanted"),
    [
        ([{"role": "user", "content": [IMAGE, text("Go.")]}], True, "<i>Go.\n"),
        ([{"role": "user", "content": [IMAGE, text("Go.")]}], False, "<i>Go."),
        ([{"role": "user", "content": [text("a"), IMAGE, IMAGE, text("b")]}], True, "a<i><i>b\n"),
        ([{"role": "user", "content": "Go."}], True, "Go.\n"),
        ([{"role": "system", "content": "Hi."}, {"role": "user", "content": "Go."}], True, "Hi.\nGo.\n"),
    ],
)
def test_prompts(messages, prompt, wanted):
    assert render(messages, prompt) == wanted


def test_a_prompt_followed_by_its_response_is_the_dialogue():
    turns = [
        {"role": "user", "content": [IMAGE, text("Go.")]},
        {"role": "assistant", "content": [text('{"action": "+"}')]},
        {"role": "user", "content": "Again."},
    ]
    whole = render(turns, prompt=True)
    assert whole == '<i>Go.\n{"action": "+"}</s>Again.\n'
    assert whole.startswith(render(turns[:1], prompt=True) + '{"action": "+"}</s>')
