"""Byte-level BPE trained on the project's own texts; what the policy decides is never glued to syntax.

Merges run across words, so a JSON response costs about 15 tokens, but they never cross a number, an operator,
an isolated word, the action marker or the end of the object: the character spans of thought and action then
fall on token borders.
"""

import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from learner.tiny.corpus import TinyCorpus

ACTION_MARKER = '"action": "'
"""Text before the chosen action in a response; one token, which ends where the action begins."""

_SYNTAX = r'\d+|[-+*/()=<>]|"action": "|"\}|\n'
_MARKUP_REPEATS = 64


def split_pattern(isolated: tuple[str, ...]) -> str:
    """Regular expression of the pieces that no merge may cross; longer words win over their prefixes."""
    words = sorted(set(isolated), key=lambda word: (-len(word), word))
    if not words:
        return _SYNTAX
    alternatives = "|".join(re.escape(word) for word in words)
    return rf"(?<![A-Za-z])(?:{alternatives})(?![A-Za-z])|{_SYNTAX}"


def train_tokenizer(
    corpus: TinyCorpus,
    *,
    vocab_size: int,
    pad_token: str,
    eos_token: str,
    image_tokens: dict[str, str],
    template: str,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer whose ids depend on the arguments alone.

    Args:
        corpus: the texts.
        vocab_size: upper bound on the number of ids, special tokens and the 256 bytes included.
        pad_token: padding token, id 0.
        eos_token: end-of-sequence token, id 1. There is no beginning-of-sequence token.
        image_tokens: attribute name to token, such as `{"image_token": "<image>"}`; they take the next ids.
        template: Jinja chat template.

    Raises:
        ValueError: an isolated word or the action marker did not become a single token.
    """
    specials = [pad_token, eos_token, *image_tokens.values()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split_pattern(corpus.isolated)), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    whole = (*corpus.isolated, ACTION_MARKER)
    repeats = _MARKUP_REPEATS + len(corpus.prompts) + len(corpus.responses)
    tokenizer.train_from_iterator([*corpus.prompts, *corpus.responses, *whole * repeats], trainer)
    for word in dict.fromkeys(whole):
        _check_single(tokenizer, word, vocab_size)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad_token,
        eos_token=eos_token,
        extra_special_tokens=image_tokens,
        chat_template=template,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """Id of one token.

    Raises:
        ValueError: the tokenizer does not know the token.
    """
    found = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int):
        raise ValueError(f"{token!r} is no token of this tokenizer")
    return found


def _check_single(tokenizer: Tokenizer, word: str, vocab_size: int) -> None:
    pieces = tokenizer.encode(word, add_special_tokens=False).tokens
    if len(pieces) != 1:
        raise ValueError(
            f"{word!r} takes {len(pieces)} tokens {pieces} of a vocabulary of {vocab_size}; it must be one: "
            "raise vocab_size"
        )
