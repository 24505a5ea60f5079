"""The texts a tiny model's tokenizer is trained on; callers draw them from prompts and demonstrations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TinyCorpus:
    """Texts that decide which strings become single tokens.

    Attributes:
        prompts: prompt texts as the policy will see them, without image or template markup.
        responses: response texts as the demonstrator writes them. A text that occurs often weighs more.
        isolated: words that must be one token each wherever they stand alone, such as the names of actions.
            Numbers, the operators `+-*/()=<>` and the action marker need no mention.

    Raises:
        ValueError: there is no response, or an isolated word is empty or has blanks around it.
    """

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    isolated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a corpus that no useful tokenizer can come from."""
        if not any(self.responses):
            raise ValueError("the corpus has no response text: pass at least one demonstration")
        for word in self.isolated:
            if not word or word != word.strip():
                raise ValueError(f"isolated word {word!r} is empty or has blanks around it: strip it first")
