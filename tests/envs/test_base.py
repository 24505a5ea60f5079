import gymnasium
import numpy as np
import pytest

from envs import PromptSwitches, TaskAdapter
from envs.memory import Remembered


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
    assert (task.truth({}), task.fallback("run", {}), task.recall(picture, {})) == ({}, None, "")
    assert task.recall("You see a mug.", {}) == "You see a mug."
    assert task.component({}) is task
    assert (task.switchable, task.key_fields, task.default_memory) == (frozenset(), (), 0)


PICTURE = np.full((6, 6, 3), 255, np.uint8)


def turned(**switches):
    task = Bare()
    task.switches = PromptSwitches(**switches)
    return task


def test_a_query_is_the_prompt_and_the_picture():
    query = Bare().query(PICTURE, {})
    assert query.text == "Go." and len(query.images) == 1 and query.images[0] is PICTURE
    assert Bare().query(PICTURE, {"memory": ()}).text == "Go."


def test_text_only_leaves_the_picture_out():
    assert turned(text_only=True).query(PICTURE, {}).images == ()
    assert turned(text_only=True).picture(PICTURE, {}) is None


def test_marks_are_drawn_on_the_picture():
    (image,) = turned(marks="envs.marks:grid").query(PICTURE, {}).images
    assert (image != PICTURE).any() and (PICTURE == 255).all()
    assert turned(marks="envs.marks:grid", text_only=True).query(PICTURE, {}).images == ()


def test_the_memory_in_the_info_comes_before_the_prompt():
    early = np.zeros((6, 6, 3), np.uint8)
    memory = (Remembered("It rains.", "stay", None), Remembered("", "go", early))
    query = Bare().query(PICTURE, {"memory": memory})
    assert query.text == (
        "Earlier in this episode:\n- It rains. You gave: stay\n- You gave: go\n"
        "The pictures before the last one belong to these steps, in their order.\nGo."
    )
    assert [image is one for image, one in zip(query.images, (early, PICTURE), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("switches", "kept"),
    [
        ({}, ["where", "what", "thoughts", "action"]),
        ({"thoughts": False}, ["where", "what", "action"]),
        ({"key_state": False}, ["thoughts", "action"]),
        ({"key_state": False, "thoughts": False}, ["action"]),
    ],
)
def test_kept_are_the_fields_that_the_switches_leave(switches, kept):
    task = turned(**switches)
    task.key_fields = ("what", "where", "absent")  # type: ignore[misc]
    answer = {name: "x" for name in "where what thoughts action".split()}
    assert list(task.kept(answer)) == kept
    assert len(answer) == 4


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
