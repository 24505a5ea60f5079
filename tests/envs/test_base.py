import gymnasium
import numpy as np
import pytest

from envs import TaskAdapter


class Bare(TaskAdapter):
    """Only what must be written."""

    env_id = "bare"
    action_names = ("stay", "go", "stop")

    def prompt(self, observation, info):
        return "Go."

    def expert(self, info, rng, noise=0.0):
        return self.noisy("go", info, rng, noise)


class Narrow(Bare):
    def legal_actions(self, info):
        return ("stop", "stay")


def test_defaults_fit_a_discrete_game_seen_as_a_picture():
    task, picture = Bare(), np.zeros((4, 4, 3), np.uint8)
    assert task.image(picture, {}) is picture
    assert tuple(task.legal_actions({})) == ("stay", "go", "stop")
    assert [task.env_action(name, {}) for name in task.action_names] == [0, 1, 2]
    assert task.recognition({}) == {}
    assert task.task({}) == ""
    assert [task.success(total, {}) for total in (-1.0, 0.0, 0.5)] == [False, False, True]


def test_prompt_and_expert_must_be_written():
    with pytest.raises(TypeError, match="expert"):
        type("Silent", (TaskAdapter,), {"prompt": Bare.prompt})()
    with pytest.raises(TypeError, match="prompt"):
        type("Silent", (TaskAdapter,), {"expert": Bare.expert})()


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(gymnasium.error.InvalidAction, match="'run' is no .* of bare.*'stay', 'go', 'stop'"):
        Bare().env_action("run", {})


@pytest.mark.parametrize("noise", [-0.1, 1.1, float("nan")])
def test_noise_is_a_probability(noise):
    with pytest.raises(ValueError, match="noise is a probability"):
        Bare().expert({}, np.random.default_rng(0), noise)


def test_noise_mixes_the_best_action_with_uniform_legal_ones():
    task, rng, n = Bare(), np.random.default_rng(0), 3000
    assert {task.expert({}, rng) for _ in range(200)} == {"go"}
    drawn = [task.expert({}, rng, 0.6) for _ in range(n)]
    counts = np.array([drawn.count(name) for name in task.action_names])
    expected = np.array([0.2, 0.6, 0.2])
    sigma = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) < 4 * sigma).all(), counts


def test_noise_draws_legal_actions_only():
    rng = np.random.default_rng(0)
    assert {Narrow().expert({}, rng, 1.0) for _ in range(100)} == {"stop", "stay"}
