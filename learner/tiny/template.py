"""Chat template of the tiny models: as few tokens as a dialogue with images can do with."""

_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ '\\n' }}{% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}{{ 'IMAGE' }}{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message.role == 'assistant' %}{{ 'EOS' }}{% endif %}"
    "{% if message.role == 'system' %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n' }}{% endif %}"
)


def chat_template(image_markup: str, eos_token: str) -> str:
    """Jinja template: each image becomes `image_markup`, a response starts after a newline and ends with eos.

    With `add_generation_prompt` the text ends exactly where the response starts, so that prompt ids followed
    by response ids are the ids of the whole dialogue.
    """
    return _TEMPLATE.replace("IMAGE", image_markup).replace("EOS", eos_token)
