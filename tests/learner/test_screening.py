from dataclasses import replace

import numpy as np
import pytest

from learner.backbone import Backbone
from learner.screening import screen
from protocol.codec import encode
from protocol.trajectory import NO_DIGEST, EndReason, Frame
from protocol.validation import AdmissionRules
from tests.learner.world import COMPUTE


@pytest.fixture
def check(either_world):
    backbone = Backbone.load(either_world.folder, COMPUTE)
    rules = AdmissionRules(backbone.vocab_size, backbone.image_token_id, {0: NO_DIGEST})

    def run(batch):
        return screen(batch, rules, backbone.images, either_world.banned)

    return run


def test_good_trajectories_pass(either_world, check):
    assert check(either_world.batch(either_world.mixed_steps())) == []


def test_one_bad_row_refuses_its_trajectory_only(either_world, check):
    steps = either_world.mixed_steps()
    tokens = steps[1].response_token_ids.copy()
    tokens[0] = either_world.banned[0]
    steps[1] = replace(steps[1], response_token_ids=tokens)
    rejections = check(either_world.batch(steps))
    assert [(r.trajectory_id, r.step) for r in rejections] == [("a", 1)]
    assert "banned" in rejections[0].reason


@pytest.mark.parametrize("placeholders", [0, 8, 10])
def test_placeholders_must_match_the_image_tokens(either_world, check, placeholders):
    prompt = either_world.expanded(image_tokens=placeholders)
    rejections = check(either_world.batch([either_world.step(prompt_token_ids=prompt)]))
    assert f"{placeholders} image placeholders for 9 image tokens" in rejections[0].reason


def test_bootstrap_prompts_are_checked_too(either_world, check):
    steps = either_world.trajectory("a", [(1, 4)], [1.0], end_reason=EndReason.CUT, bootstrap_of=(2, 4))
    steps[0] = replace(steps[0], bootstrap_prompt_token_ids=either_world.expanded(image_tokens=5))
    assert "bootstrap_prompt_token_ids has 5" in check(either_world.batch(steps))[0].reason


def test_unreadable_frames_refuse_the_rows_that_show_them(either_world, check):
    broken = Frame.of(b"no image at all")
    good = Frame.of(either_world.png((1, 4)))
    steps = [either_world.step(trajectory="good"), either_world.step(trajectory="bad", frame_digests=(broken.digest,))]
    rejections = check(encode(steps, [broken, good]))
    assert [r.trajectory_id for r in rejections] == ["bad"]
    assert "not a readable image" in rejections[0].reason


def test_the_protocol_checks_come_first(either_world, check):
    log_probs = np.full(len(either_world.response((1, 4))), np.nan, dtype=np.float32)
    prompt = either_world.expanded(image_tokens=3)
    step = either_world.step(behavior_log_probs=log_probs, prompt_token_ids=prompt)
    rejections = check(either_world.batch([step]))
    assert len(rejections) == 1
    assert "NaN" in rejections[0].reason
