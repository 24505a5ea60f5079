import pytest

from cluster.sweep.variants import expand
from protocol.errors import ConfigError


def test_all_combinations_with_seeds_as_repeats():
    found = expand(["learner.ppo.thought_weight=0,0.5", "seed=1,2", "env.prompt.thoughts=true"])
    assert [(v.label, v.seed) for v in found] == [
        ("learner.ppo.thought_weight=0, env.prompt.thoughts=true", "1"),
        ("learner.ppo.thought_weight=0, env.prompt.thoughts=true", "2"),
        ("learner.ppo.thought_weight=0.5, env.prompt.thoughts=true", "1"),
        ("learner.ppo.thought_weight=0.5, env.prompt.thoughts=true", "2"),
    ]
    assert found[1].overrides == ["learner.ppo.thought_weight=0", "env.prompt.thoughts=true", "seed=2"]
    assert [v.folder for v in found[:2]] == [f"thought_weight-0_thoughts-true_seed-{seed}" for seed in (1, 2)]


def test_commas_inside_brackets_do_not_part():
    (one, other) = expand(["env.kwargs={hands: train, size: 84},{hands: all}"])
    assert one.overrides == ["env.kwargs={hands: train, size: 84}"] and other.overrides == ["env.kwargs={hands: all}"]


def test_without_axes_there_is_one_run():
    (one,) = expand([])
    assert (one.label, one.folder, one.overrides) == ("as configured", "run", [])


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        (["seed"], "not of the form"),
        (["=1"], "not of the form"),
        (["seed="], "not of the form"),
        (["a=1", "a=2"], "comes twice"),
        (["a=x y,x_y"], "share a run directory"),
    ],
)
def test_mistakes_are_explained(axes, told):
    with pytest.raises(ConfigError, match=told):
        expand(axes)
