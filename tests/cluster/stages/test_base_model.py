"""What a tiny model of a run with stages is built from."""

from cluster.config import default_config
from cluster.stages.base_model import environments_of, texts_of
from cluster.stages.model import corpus_of

STAGES = [
    "env.kwargs.max_position=3",
    "stages.words={kind: sft, env: {prompt: {text_only: true}}}",
    "stages.look.kind=sft",
    "stages.act={kind: rl, env: {id: gym_cards/Blackjack-v0}}",
]


def test_every_environment_of_any_stage_counts_once():
    environments = environments_of(default_config([*STAGES, "stages.again.kind=rl"]))
    assert [(e.id, e.prompt.text_only) for e in environments] == [
        ("gym_cards/NumberLine-v0", True),
        ("gym_cards/NumberLine-v0", False),
        ("gym_cards/Blackjack-v0", False),
    ]


def test_the_corpus_holds_the_words_of_all_stages():
    prompts, responses, names = texts_of(default_config(STAGES))
    assert names == ("-", "+", "stand", "hit")
    assert any("The target number is 3" in text for text in prompts)
    assert any("The picture shows a target number" in text for text in prompts)
    assert any("stand" in text for text in responses) and len(prompts) == len(responses) // 2


def test_without_stages_it_is_the_environments_own():
    config = default_config()
    assert environments_of(config) == [config.env]
    assert texts_of(config) == corpus_of(config.env, config.seed)
