import pytest

from learner.tiny.corpus import TinyCorpus


@pytest.mark.parametrize("responses", [(), ("",)])
def test_a_corpus_needs_a_response(responses):
    with pytest.raises(ValueError, match="no response"):
        TinyCorpus(prompts=("Move.",), responses=responses)


@pytest.mark.parametrize("word", ["", " hit", "hit\n"])
def test_isolated_words_have_no_blanks_around(word):
    with pytest.raises(ValueError, match="isolated word"):
        TinyCorpus(prompts=(), responses=("a",), isolated=("stand", word))
