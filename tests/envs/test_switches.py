import json
from dataclasses import asdict, fields

import numpy as np
import pytest

from envs.errors import EnvSetupError
from envs.switches import EVERY_TASK, PromptSwitches, draw_marks, load_mark

PICTURE = np.full((6, 9, 3), 200, np.uint8)


def test_the_defaults_are_the_full_prompt_of_one_state():
    usual = PromptSwitches()
    assert (usual.rules, usual.thoughts, usual.key_state, usual.formula) == (True, True, True, True)
    assert (usual.text_only, usual.marks, usual.memory, usual.memory_frames) == (False, None, None, False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"memory": -1}, r"prompt.memory is -1; .* give 0 or more"),
        ({"memory_frames": True}, "set prompt.memory to 1 or more"),
        ({"memory_frames": True, "memory": 0}, "set prompt.memory to 1 or more"),
        ({"memory_frames": True, "memory": 1, "text_only": True}, "turn one of them off"),
        ({"formula": False, "text_only": True}, "leaves nothing that tells the state"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(EnvSetupError, match=message):
        PromptSwitches(**values)


def test_a_switch_that_a_task_does_not_honour_is_named_with_those_it_does():
    with pytest.raises(EnvSetupError, match="formula=False means nothing to a/Game-v0, which honours marks, "):
        PromptSwitches(formula=False).check("a/Game-v0", {"thoughts"}, 0)
    PromptSwitches(thoughts=False).check("a/Game-v0", {"thoughts"}, 0)


def test_some_switches_work_for_every_task():
    assert EVERY_TASK == {"marks", "memory", "memory_frames"}
    switches = PromptSwitches(marks="envs.marks:grid", memory=1, memory_frames=True)
    assert switches.check("a/Game-v0", (), 0) == switches


def test_the_memory_is_filled_in_with_the_tasks_own():
    assert PromptSwitches().check("a/Game-v0", (), 2).memory == 2
    assert PromptSwitches(memory=0).check("a/Game-v0", (), 2).memory == 0


def test_provenance_names_every_switch():
    switches = PromptSwitches(thoughts=False, marks="envs.marks:grid", memory=2)
    assert json.loads(switches.to_json()) == asdict(switches)
    assert list(json.loads(switches.to_json())) == [field.name for field in fields(PromptSwitches)]


def red_dot(image, info):
    image[0, 0] = (255, 0, info["shade"])
    return image


def grey(image, info):
    return image[..., 0]


def nothing(image, info):
    return None


NUMBER = 3


def test_a_mark_draws_on_a_copy():
    marked = draw_marks("tests.envs.test_switches:red_dot", PICTURE, {"shade": 7})
    assert marked[0, 0].tolist() == [255, 0, 7]
    assert (PICTURE == 200).all()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tests.envs.no_such:red_dot", "cannot be loaded"),
        ("tests.envs.test_switches:blue_dot", "cannot be loaded .*blue_dot"),
        ("red_dot", "give module:function"),
        ("", "give module:function"),
        (":red_dot", "give module:function"),
        ("tests.envs.test_switches:NUMBER", "is no function; it takes a picture and info"),
    ],
)
def test_a_mark_that_cannot_be_loaded_is_refused_before_any_episode(path, message):
    with pytest.raises(EnvSetupError, match=message):
        load_mark(path)
    with pytest.raises(EnvSetupError, match=message):
        PromptSwitches(marks=path).check("a/Game-v0", (), 0)


@pytest.mark.parametrize(("name", "found"), [("grey", r"uint8 \[6, 9\]"), ("nothing", "NoneType")])
def test_a_mark_must_return_a_picture(name, found):
    with pytest.raises(EnvSetupError, match=f"test_switches:{name}' returned {found}; return the picture"):
        draw_marks(f"tests.envs.test_switches:{name}", PICTURE, {})
